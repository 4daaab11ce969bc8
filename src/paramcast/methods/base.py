"""Interface of a method of `paramcast compare`: settings to try, adaptation to a device, traffic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from paramcast.methods.meter import Work
from paramcast.video.tasks.base import Asked

if TYPE_CHECKING:
    from paramcast.methods.background import Background, Samples
    from paramcast.video.training.arrays import ClipData

TRIALS = 6
"""Largest number of settings that a method may try on validation devices; the limit is the same for all."""

Settings = Mapping[str, float | str]
Predictor = Callable[[Asked], Tensor]
"""Rows of the support set's bank -> logits (N, A), or scores of texts against candidates (N, G)."""


@dataclass(frozen=True)
class Labeled:
    """Questions or sentences, and their labels.

    Attributes:
        asked: N questions or sentences.
        answers: (N,) int64. The number of the answer, -1 for an answer that the model does not know; or the
            place of the right option; or the place of a sentence's clip among the candidates.
    """

    asked: Asked
    answers: Tensor


@dataclass(frozen=True, eq=False)
class Support:
    """Data that a device may adapt with.

    Attributes:
        device: Its id.
        samples: The bank that rows refer to, and the data that the cloud receives of them.
        clips: The support clips as the device sends them: no items, no hints.
        asked: The questions about the clips. In retrieval, the captions and the clips, unpaired, in an order
            that does not reveal the pairs.
        labeled: The first labels of the support set, up to the number that the method takes; None for a
            method without labels.
    """

    device: str
    samples: Samples
    clips: tuple[ClipData, ...]
    asked: Asked
    labeled: Labeled | None


@dataclass(frozen=True)
class Traffic:
    """Bytes that are sent.

    Attributes:
        up, down: Bytes of one adaptation.
        leaves: Kinds of data that leave the device: some of 'features', 'gradients', 'labels', 'pixels',
            'texts'.
        query_up, query_down: Bytes of every query. They do not depend on the number of queries that an
            adaptation serves.
    """

    up: int = 0
    down: int = 0
    leaves: tuple[str, ...] = ()
    query_up: int = 0
    query_down: int = 0


class Method(ABC):
    """Way to fit a model to a device.

    One object serves one comparison. `prepare` is called first, then `adapt` any number of times.

    Attributes:
        tasks: Tasks that it serves.
        swapped: Each device adapts with the support set of another device: a control, not a method.
        on_cloud: `adapt` runs on the cloud; the device does only the work that `device_work` returns.
        note: A few words about a method that does not adapt the base model.
        labels: Number of labels that it takes of each device.
    """

    tasks: ClassVar[tuple[str, ...]] = ("qa", "choice", "retrieval")
    swapped: ClassVar[bool] = False
    on_cloud: ClassVar[bool] = False
    note: ClassVar[str] = ""
    identity: ClassVar[Settings | None] = None
    """Settings that adapt nothing, if the method has such settings. They are never in the grid."""

    def __init__(self, labels: int = 0) -> None:
        self.labels = labels

    def grid(self, task: str) -> Sequence[Settings]:
        """Return at most `TRIALS` settings; the scores on validation devices choose one of them."""
        return ({},)

    def prepare(self, background: Background) -> None:
        """Do the work that needs no device, such as statistics of the training clips."""
        self.background = background

    @abstractmethod
    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Adapt to one device; the base model must not change.

        Args:
            support: The support set of the device.
            settings: Settings of the grid, or the identity.
            seed: Seed of all random draws.
        """

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of an adaptation and of every query; none unless a method overrides this."""
        return Traffic()

    def device_work(self, support: Support, settings: Settings) -> Work:
        """Return the work of the device besides `adapt`, such as its turns in rounds of training."""
        return Work()

    def query_ms(self, support: Support, settings: Settings) -> float | None:
        """Return the milliseconds of the cloud for every query; None where the device answers without it."""
        return None


def shrunk(count: int, prior: float) -> float:
    """Compute the weight in [0, 1] of a statistic of `count` clips beside one that is worth `prior` clips."""
    return count / (count + prior)
