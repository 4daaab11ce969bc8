"""Video question answering: classification over a fixed list of answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.adapters import AdaptedModule
from paramcast.training.controls import Metric
from paramcast.video.data.answers import consensus
from paramcast.video.data.collection import Clip
from paramcast.video.models.answer import AnswerModel
from paramcast.video.tasks.base import Asked, Item, Task
from paramcast.video.training.arrays import NO_ANSWER, ClipData, DeviceData
from paramcast.video.training.bank import Bank

SMOOTHING = 0.1
"""Share of a target's weight that is spread over all answers."""

_QUESTIONS_A_CLIP = 4  # in a batch of the base model
_QUERY_CLIPS, _QUESTIONS = 6, 6  # of each device in an episode


class QuestionAnswering(Task):
    """Questions, scored by top-1 accuracy and VQA's consensus; an answer unknown to the model is wrong."""

    name = "qa"
    needs = "`qa`"
    targets = AnswerModel.targets
    base_epochs = 8
    has_answers = True
    codes = 400  # each word of a device's own vocabulary needs a separate change (docs/log.md)

    def items(self, clip: Clip) -> list[Item]:
        """Return one item for each question."""
        return [Item(None, qa.question, qa.answer, qa) for qa in clip.qa]

    def build(self, image_dim: int, text_dim: int, shared_dim: int, answers: Sequence[str]) -> nn.Module:
        """Build an `AnswerModel`."""
        return AnswerModel(image_dim, text_dim, len(answers))

    def base_loss(
        self, model: nn.Module, bank: Bank, clips: Sequence[ClipData], rng: np.random.Generator, batch: int
    ) -> Tensor:
        """Compute the cross-entropy of `batch` questions, a few for each clip.

        The probability of a clip is proportional to its number of questions.
        """
        counts = np.array([len(clip.items) for clip in clips], np.float64)
        drawn = rng.choice(len(clips), batch // _QUESTIONS_A_CLIP, p=counts / counts.sum())
        items = np.stack(
            [clips[i].items[rng.integers(len(clips[i].items), size=_QUESTIONS_A_CLIP)] for i in drawn]
        )
        frames, mask = bank.some_frames(items[:, 0, 0], rng)
        logits = self._logits(model, bank, frames, mask, items)
        return self._loss(logits, items)

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
        """Compute the cross-entropy of a few questions of a few query clips of each device."""
        drawn = []
        for clips in queries:
            chosen = rng.choice(len(clips), _QUERY_CLIPS, replace=len(clips) < _QUERY_CLIPS)
            drawn.append([clips[i].items[rng.integers(len(clips[i].items), size=_QUESTIONS)] for i in chosen])
        items = np.array(drawn)  # (B, C, N, 3 + options)
        frames, mask = bank.some_frames(items[:, :, 0, 0], rng)
        with adapted.use(values):
            logits = self._logits(adapted.replica, bank, frames, mask, items)
        return self._loss(logits, items)

    def asked(self, device: DeviceData, gallery: Sequence[ClipData]) -> Asked:
        """Return the questions about the device's query clips."""
        items = np.concatenate([clip.items for clip in device.query])
        return Asked(items[:, 0], items[:, 1], items[:, 3:])

    def outputs(self, model: nn.Module, bank: Bank, asked: Asked) -> Tensor:
        """Compute logits (N, answers); each clip goes through the model once, with all its questions."""
        rows, clip = np.unique(asked.shown, return_inverse=True)
        order = np.argsort(clip, kind="stable")
        counts = np.bincount(clip)
        place = np.empty(len(clip), np.int64)  # of each question among the questions of its clip
        place[order] = np.arange(len(clip)) - np.repeat(counts.cumsum() - counts, counts)
        items = np.zeros((len(rows), counts.max(), 3 + asked.options.shape[1]), np.int64)
        items[clip, place, 1] = asked.texts
        items[clip, place, 3:] = asked.options
        return self._logits(model, bank, bank.frames[rows], bank.mask[rows], items)[clip, place]

    def figures(self, outputs: Tensor, device: DeviceData) -> dict[Metric, float]:
        """Compute the share of right answers, and the consensus where several people answered."""
        right = answered_right(outputs, device)
        figures = {Metric("top1"): 100 * int(right.sum()) / len(right)}
        given = [row[row > NO_ANSWER] for clip in device.query for row in clip.right]
        if any(len(answers) > 1 for answers in given):
            said = outputs.argmax(-1).tolist()
            each = [
                consensus(int((answers == best).sum()), len(answers))
                for best, answers in zip(said, given, strict=True)
            ]
            figures[Metric("consensus")] = 100 * float(np.mean(each))
        return figures

    def _logits(
        self, model: nn.Module, bank: Bank, frames: Tensor, mask: Tensor, items: np.ndarray
    ) -> Tensor:
        """Compute logits (..., N, answers) of items (..., N, 3)."""
        logits: Tensor = model(frames, mask, bank.texts[items[..., 1]])
        return logits

    def _loss(self, logits: Tensor, items: np.ndarray) -> Tensor:
        """Compute the smoothed cross-entropy over the questions whose answer the model knows."""
        targets = torch.tensor(items[..., 2])
        return F.cross_entropy(
            logits.flatten(0, -2), targets.flatten().clamp(min=-1), ignore_index=-1, label_smoothing=SMOOTHING
        )


def answered_right(outputs: Tensor, device: DeviceData) -> np.ndarray:
    """Find out which questions about the query clips are answered right by logits (N, answers): (N,) bool.

    Where a question has several right answers, each of them counts as right.
    """
    said = outputs.argmax(-1).numpy()
    rights = [row for clip in device.query for row in clip.right]
    return np.array([best in row for best, row in zip(said, rights, strict=True)], bool)
