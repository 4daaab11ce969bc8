"""What a task has to say: which texts belong to a clip, the model, its losses and its scores."""

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
    """One thing to be scored: a text about a clip or one of its frames, and its answer if it has one."""

    frame: int | None
    text: str
    answer: str | None = None
    question: Question | None = None
    """Where the answer comes from, with all that the data set says of it."""


@dataclass(frozen=True)
class Asked:
    """What a model is asked, without the answers; all are rows of a bank.

    Attributes:
        shown: (N,) the clip or frame that each question is about; in retrieval (G,), all candidates.
        texts: (N,) questions, or sentences whose clips are looked for.
        options: (N, O) the answers to choose from, -1 behind the last of a question; no columns where the
            answer is not chosen so.
    """

    shown: np.ndarray
    texts: np.ndarray
    options: np.ndarray


class Task(ABC):
    """A task; everything that differs between tasks is here."""

    name: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    needs: ClassVar[str]
    """The keys of a clip that serve the task."""
    offset_share: ClassVar[float] = 0.0
    """Share of the devices of an episode whose features are moved by an offset of their own."""
    base_epochs: ClassVar[int]
    has_answers: ClassVar[bool] = False
    options: ClassVar[int] = 0
    """Answers to choose from, the right one among them; 0 where the answer is not chosen so."""
    base_batch: ClassVar[int] = 256
    codes: ClassVar[int] = 64
    """Numbers in a package of form `codes`; a package is to stay below 600 bytes."""

    @abstractmethod
    def items(self, clip: Clip) -> list[Item]:
        """The clip's items; none makes the clip useless to the task."""

    def scored_items(self, clip: Clip) -> list[Item]:
        """What a clip is scored on; in most tasks the same as what is trained on."""
        return self.items(clip)

    def hints(self, clip: Clip) -> list[str]:
        """Further texts about the clip that training may use."""
        return []

    def form_options(self, form: str) -> dict[str, int]:
        """Options of a form of parameters, where the task's differ from the form's own."""
        return {"count": self.codes} if form == "codes" else {}

    def usable(self, clip: Clip) -> bool:
        """Whether the clip serves the task."""
        return bool(self.items(clip))

    @abstractmethod
    def build(self, image_dim: int, text_dim: int, shared_dim: int, answers: Sequence[str]) -> nn.Module:
        """The base model, with untrained parameters and `image_norm` and `text_norm` somewhere in it.

        Args:
            image_dim: Length of an image's feature.
            text_dim: Length of a text's.
            shared_dim: See `encoders.shared_dim`.
            answers: The known ones.
        """

    @abstractmethod
    def base_loss(
        self, model: nn.Module, bank: Bank, clips: Sequence[ClipData], rng: np.random.Generator, batch: int
    ) -> Tensor:
        """Loss () of the base model on `batch` texts drawn from `clips`, or fewer."""

    def centred(self, model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
        """The layers that read texts whose mean can be taken away; none in most tasks.

        Returns:
            Layer -> what taking offsets (k, Dt) from texts' features adds to its output (k, out).
        """
        return {}

    def align(  # noqa: B027  most tasks have nothing to do
        self, model: nn.Module, final: dict[str, Tensor], bank: Bank, clips: Sequence[ClipData]
    ) -> None:
        """Bring a base model that leaves out a fold into the final one's space; its scores do not change.

        Nothing is to be done where the layers' spaces are fixed by their outputs, as those of answers are.

        Args:
            model: Changed in place.
            final: The final base model's state.
            bank: Features.
            clips: Clips as they are.
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
        """Loss () on the query clips of B devices, each under its own values.

        Args:
            adapted: The base model under updates.
            values: Package tensors (B, *shape); None for the base model.
            bank: Features.
            queries: Each device's query clips.
            has_cameras: Whether each device sees its clips through cameras of its own.
            others: Clips of nobody in particular, for contrast.
            rng: For what the task draws.
        """

    @abstractmethod
    def asked(self, device: DeviceData, gallery: Sequence[ClipData]) -> Asked:
        """What a device is scored on.

        Args:
            device: Scored on its query clips.
            gallery: All clips of the collection, as they are.
        """

    @abstractmethod
    def outputs(self, model: nn.Module, bank: Bank, asked: Asked) -> Tensor:
        """What `model` says: logits (N, A) of the questions, or scores (N, G) of texts against candidates."""

    @abstractmethod
    def figures(self, outputs: Tensor, device: DeviceData) -> dict[Metric, float]:
        """The figures of a device in percent, of outputs for what it was asked. Higher is better."""

    def score(
        self,
        adapted: AdaptedModule,
        values: dict[str, Tensor] | None,
        bank: Bank,
        device: DeviceData,
        gallery: Sequence[ClipData],
    ) -> dict[Metric, float]:
        """The figures of a device under its package `values` (1, *shape); None for the base model."""
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
        """The mean of what `score` gives."""
        return float(np.mean(list(self.score(adapted, values, bank, device, gallery).values())))
