"""Video question answering: classification over a fixed list of answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.data.collection import Clip
from paramcast.models.answer import AnswerModel
from paramcast.models.dynamic import Dynamic
from paramcast.training.arrays import ClipData, DeviceData
from paramcast.training.bank import Bank
from paramcast.training.tasks.base import Item, Metric, Task

_QUESTIONS_A_CLIP = 4  # of a batch of the base model
_QUERY_CLIPS, _QUESTIONS = 6, 6  # of each device in an episode


class QuestionAnswering(Task):
    """Top-1 accuracy; an answer that the model does not know counts as wrong."""

    name = "qa"
    targets = AnswerModel.targets
    base_epochs = 8
    has_answers = True

    def items(self, clip: Clip) -> list[Item]:
        """One for each question."""
        return [Item(None, qa.question, qa.answer) for qa in clip.qa]

    def build(self, image_dim: int, text_dim: int, answers: Sequence[str]) -> nn.Module:
        """See `AnswerModel`."""
        return AnswerModel(image_dim, text_dim, len(answers))

    def base_loss(
        self, model: nn.Module, bank: Bank, clips: Sequence[ClipData], rng: np.random.Generator
    ) -> Tensor:
        """Cross-entropy of `base_batch` questions, a few a clip; clips by their numbers of questions."""
        counts = np.array([len(clip.items) for clip in clips], np.float64)
        drawn = rng.choice(len(clips), self.base_batch // _QUESTIONS_A_CLIP, p=counts / counts.sum())
        items = np.stack(
            [clips[i].items[rng.integers(len(clips[i].items), size=_QUESTIONS_A_CLIP)] for i in drawn]
        )
        frames, mask = bank.some_frames(items[:, 0, 0], rng)
        logits = self._logits(model, bank, frames, mask, items)
        return _loss(logits, torch.from_numpy(items[..., 2]))

    def episode_loss(
        self,
        dynamic: Dynamic,
        values: dict[str, Tensor] | None,
        bank: Bank,
        queries: Sequence[Sequence[ClipData]],
        others: Sequence[ClipData],
        rng: np.random.Generator,
    ) -> Tensor:
        """Cross-entropy of a few questions of a few query clips of each device."""
        drawn = []
        for clips in queries:
            chosen = rng.choice(len(clips), _QUERY_CLIPS, replace=len(clips) < _QUERY_CLIPS)
            drawn.append([clips[i].items[rng.integers(len(clips[i].items), size=_QUESTIONS)] for i in chosen])
        items = np.array(drawn)  # (B, C, N, 3 + options)
        frames, mask = bank.some_frames(items[:, :, 0, 0], rng)
        with dynamic.use(values):
            logits = self._logits(dynamic.module, bank, frames, mask, items)
        return _loss(logits, torch.tensor(items[..., 2]))

    def score(
        self,
        dynamic: Dynamic,
        values: dict[str, Tensor] | None,
        bank: Bank,
        device: DeviceData,
        gallery: Sequence[ClipData],
    ) -> dict[Metric, float]:
        """Share of the device's questions that are answered right."""
        right = asked = 0
        with torch.no_grad(), dynamic.use(values):
            longest = max(len(clip.items) for clip in device.query)
            items = np.stack([_padded(clip.items, longest) for clip in device.query])
            rows = items[:, 0, 0]
            logits = self._logits(dynamic.module, bank, bank.frames[rows], bank.mask[rows], items)
            real = items[..., 2] != _PADDING
            right = int((logits.argmax(-1).numpy() == items[..., 2])[real].sum())
            asked = int(real.sum())
        return {Metric("top1"): 100 * right / asked}

    def _logits(
        self, model: nn.Module, bank: Bank, frames: Tensor, mask: Tensor, items: np.ndarray
    ) -> Tensor:
        """Logits (..., N, answers) of items (..., N, 3)."""
        logits: Tensor = model(frames, mask, bank.texts[items[..., 1]])
        return logits


_PADDING = -2


def _padded(items: np.ndarray, length: int) -> np.ndarray:
    filler = np.repeat(items[:1], length - len(items), 0)
    filler[:, 2] = _PADDING
    return np.concatenate([items, filler])


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Smoothed cross-entropy over the questions whose answer the model knows."""
    return F.cross_entropy(
        logits.flatten(0, -2), targets.flatten().clamp(min=-1), ignore_index=-1, label_smoothing=0.1
    )
