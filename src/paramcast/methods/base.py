"""What a method of `paramcast compare` has to say: settings to try, how a device adapts, what that sends."""

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
"""Settings that a method may try on validation devices, at most: the same for all."""

Settings = Mapping[str, float | str]
Predictor = Callable[[Asked], Tensor]
"""Rows of the support set's bank -> logits (N, A), or scores of texts against candidates (N, G)."""


@dataclass(frozen=True)
class Labeled:
    """Questions or sentences, and what a person said of them.

    Attributes:
        asked: N questions or sentences.
        answers: (N,) int64. The answer's number, -1 for one that the model does not know; the right option's
            place; or the place of a sentence's clip among the candidates.
    """

    asked: Asked
    answers: Tensor


@dataclass(frozen=True, eq=False)
class Support:
    """What a device may adapt with.

    Attributes:
        device: Its id.
        samples: The bank that rows refer to, and what the cloud receives of them.
        clips: The support clips as the device sends them: no items, no hints.
        asked: The questions about them, or their captions and them, unpaired and in no order that tells.
        labeled: The first labels of the support set, as many as the method takes; None for one without.
    """

    device: str
    samples: Samples
    clips: tuple[ClipData, ...]
    asked: Asked
    labeled: Labeled | None


@dataclass(frozen=True)
class Traffic:
    """What is sent, in bytes.

    Attributes:
        up, down: Of one adaptation.
        leaves: What leaves the device: of 'features', 'gradients', 'labels', 'pixels', 'texts'.
        query_up, query_down: Of every query, however many an adaptation serves.
    """

    up: int = 0
    down: int = 0
    leaves: tuple[str, ...] = ()
    query_up: int = 0
    query_down: int = 0


class Method(ABC):
    """A way to make a model fit a device.

    One object serves one comparison: `prepare` comes first, then any number of `adapt`.

    Attributes:
        tasks: What it serves.
        swapped: Each device adapts with another one's support set: a control, not a method.
        on_cloud: `adapt` runs on the cloud; the device does only what `device_work` says.
        note: What it is if not an adaptation of the base model, in a few words.
        labels: Labels that it takes of each device.
    """

    tasks: ClassVar[tuple[str, ...]] = ("qa", "choice", "retrieval")
    swapped: ClassVar[bool] = False
    on_cloud: ClassVar[bool] = False
    note: ClassVar[str] = ""
    identity: ClassVar[Settings | None] = None
    """Settings under which nothing is adapted, where there are such; never in the grid."""

    def __init__(self, labels: int = 0) -> None:
        self.labels = labels

    def grid(self, task: str) -> Sequence[Settings]:
        """At most `TRIALS` settings, of which validation devices choose one."""
        return ({},)

    def prepare(self, background: Background) -> None:
        """Work that no device is needed for, such as statistics of the training clips."""
        self.background = background

    @abstractmethod
    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Adapt to one device; the base model must stay as it is.

        Args:
            support: Of the device.
            settings: One of the grid, or the identity.
            seed: Of whatever is drawn.
        """

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """What an adaptation, and every query, sends; nothing unless a method says otherwise."""
        return Traffic()

    def device_work(self, support: Support, settings: Settings) -> Work:
        """What the device does besides `adapt`, such as turns in rounds of training."""
        return Work()

    def query_ms(self, support: Support, settings: Settings) -> float | None:
        """Milliseconds of the cloud for every query; None where the device answers by itself."""
        return None


def shrunk(count: int, prior: float) -> float:
    """Weight in [0, 1] of a statistic of `count` clips against one that is worth `prior` clips."""
    return count / (count + prior)
