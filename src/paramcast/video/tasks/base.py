"""Interface of a task: the texts that belong to a clip, the model, its losses and its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.training.controls import Metric
from paramcast.video.data.collection import Clip, Question

if TYPE_CHECKING:
    from paramcast.adapters import AdaptedModule
    from paramcast.video.training.arrays import ClipData, DeviceData
    from paramcast.video.training.bank import Bank


@dataclass(frozen=True)
class Item:
    """Unit of scoring: a text about a clip or about one of its frames, and its answer if there is one."""

    frame: int | None
    text: str
    answer: str | None = None
    question: Question | None = None
    """The question that the answer belongs to, with all that the data set says about it."""


@dataclass(frozen=True)
class Asked:
    """Inputs of a model in evaluation, without the answers. All are rows of a bank.

    Attributes:
        shown: (N,) the clip or frame that each question is about; in retrieval (G,), all candidates.
        texts: (N,) questions; in retrieval, texts that describe a clip or frame.
        options: (N, O) the answers to choose from, -1 after the last option of a question; no columns where
            the task has no options.
    """

    shown: np.ndarray
    texts: np.ndarray
    options: np.ndarray


class Task(ABC):
    """A task: everything that differs between tasks."""

    name: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    needs: ClassVar[str]
    """The keys of a clip that the task uses, as text for messages."""
    offset_share: ClassVar[float] = 0.0
    """Share of the devices of an episode whose features are moved by a random offset, one for each device."""
    base_epochs: ClassVar[int]
    has_answers: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    """Whether a device looks through clips of others in evaluation; else their features are not needed."""
    options: ClassVar[int] = 0
    """Number of answers to choose from, the right one among them; 0 where the task has no options."""
    base_batch: ClassVar[int] = 256
    codes: ClassVar[int] = 64
    """Number of values in an update of form `codes`; an update should stay below 600 bytes."""

    @abstractmethod
    def items(self, clip: Clip) -> list[Item]:
        """Return the items of the clip for training; a clip without items cannot be used for the task."""

    def scored_items(self, clip: Clip) -> list[Item]:
        """Return the items that a clip is scored on; in most tasks these are the items for training."""
        return self.items(clip)

    def hints(self, clip: Clip) -> list[str]:
        """Return further texts about the clip that training may use."""
        return []

    def form_options(self, form: str) -> dict[str, int]:
        """Return the options of a form of updates for which the task has other defaults than the form."""
        return {"count": self.codes} if form == "codes" else {}

    def usable(self, clip: Clip) -> bool:
        """Check whether the clip can be used for the task."""
        return bool(self.items(clip))

    @abstractmethod
    def build(self, image_dim: int, text_dim: int, shared_dim: int, answers: Sequence[str]) -> nn.Module:
        """Build the base model, untrained; it contains modules named `image_norm` and `text_norm`.

        Args:
            image_dim: Length of an image's feature.
            text_dim: Length of a text's feature.
            shared_dim: See `encoders.shared_dim`.
            answers: The answers that the model can give.
        """

    @abstractmethod
    def base_loss(
        self, model: nn.Module, bank: Bank, clips: Sequence[ClipData], rng: np.random.Generator, batch: int
    ) -> Tensor:
        """Compute the loss () of the base model on at most `batch` texts drawn from `clips`."""

    def centred(self, model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return the layers that read texts and for which the mean of the texts can be removed.

        Most tasks have no such layers.

        Returns:
            Name of the layer -> function from offsets (k, Dt) to the change of the layer's output (k, out)
            when these offsets are subtracted from the texts' features.
        """
        return {}

    def align(  # noqa: B027  most tasks have nothing to do
        self, model: nn.Module, final: dict[str, Tensor], bank: Bank, clips: Sequence[ClipData]
    ) -> None:
        """Map a base model that was trained without a fold into the space of the final base model.

        The model's scores do not change. Tasks whose outputs fix the space of the layers, such as logits of
        answers, have nothing to do.

        Args:
            model: The base model; it is changed in place.
            final: State of the final base model.
            bank: Features.
            clips: Clips without a device's cameras and vocabulary.
        """

    @abstractmethod
    def episode_loss(
        self,
        adapted: AdaptedModule,
        values: dict[str, Tensor] | None,
        bank: Bank,
        queries: Sequence[Sequence[ClipData]],
        has_cameras: Sequence[bool],
        others: Sequence[ClipData],
        rng: np.random.Generator,
    ) -> Tensor:
        """Compute the loss () on the query clips of B devices, each under the values of its update.

        Args:
            adapted: The base model that takes the values of updates.
            values: Tensors of the updates (B, *shape); None for the base model.
            bank: Features.
            queries: The query clips of each device.
            has_cameras: True for each device that has its own cameras.
            others: Clips of no device, as negative examples.
            rng: Generator for everything that the task draws.
        """

    @abstractmethod
    def asked(self, device: DeviceData, gallery: Sequence[ClipData]) -> Asked:
        """Return the inputs that a device is scored on.

        Args:
            device: The device; it is scored on its query clips.
            gallery: All clips of the split, as further candidates of retrieval, without a device's cameras
                and vocabulary.
        """

    @abstractmethod
    def outputs(self, model: nn.Module, bank: Bank, asked: Asked) -> Tensor:
        """Compute the outputs of `model`: logits (N, A) of questions, or scores (N, G) of candidates."""

    @abstractmethod
    def figures(self, outputs: Tensor, device: DeviceData) -> dict[Metric, float]:
        """Compute the metrics of a device in percent from the outputs for its inputs. Higher is better."""

    def score(
        self,
        adapted: AdaptedModule,
        values: dict[str, Tensor] | None,
        bank: Bank,
        device: DeviceData,
        gallery: Sequence[ClipData],
    ) -> dict[Metric, float]:
        """Compute the metrics of a device under its update `values` (1, *shape); None for the base model."""
        with torch.no_grad(), adapted.use(values):
            outputs = self.outputs(adapted.replica, bank, self.asked(device, gallery))
        return self.figures(outputs, device)

    def mean_score(
        self,
        adapted: AdaptedModule,
        values: dict[str, Tensor] | None,
        bank: Bank,
        device: DeviceData,
        gallery: Sequence[ClipData],
    ) -> float:
        """Compute the mean of the metrics that `score` returns."""
        return float(np.mean(list(self.score(adapted, values, bank, device, gallery).values())))
