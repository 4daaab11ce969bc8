"""Multiple choice: the right answer among a few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.video.data.options import OPTIONS
from paramcast.video.models.choice import ChoiceModel
from paramcast.video.tasks.qa import SMOOTHING, QuestionAnswering
from paramcast.video.training.bank import Bank


class MultipleChoice(QuestionAnswering):
    """Questions as in `qa`, with the data set's options or with answers to other questions of their kind."""

    name = "choice"
    targets = ChoiceModel.targets
    options = OPTIONS

    def build(self, image_dim: int, text_dim: int, shared_dim: int, answers: Sequence[str]) -> nn.Module:
        """Build a `ChoiceModel`."""
        return ChoiceModel(image_dim, text_dim)

    def _logits(
        self, model: nn.Module, bank: Bank, frames: Tensor, mask: Tensor, items: np.ndarray
    ) -> Tensor:
        """Compute logits (..., N, options) of items (..., N, 3 + options); -inf for missing options."""
        rows = items[..., 3:]
        logits: Tensor = model(frames, mask, bank.texts[items[..., 1]], bank.texts[rows.clip(0)])
        return logits.masked_fill(torch.from_numpy(rows < 0), -torch.inf)

    def _loss(self, logits: Tensor, items: np.ndarray) -> Tensor:
        """Compute the cross-entropy as in `qa`, with labels smoothed over the options that a question has."""
        targets = torch.tensor(items[..., 2])
        log, there = logits.log_softmax(-1), torch.from_numpy(items[..., 3:] >= 0)
        spread = log.masked_fill(~there, 0.0).sum(-1) / there.sum(-1)
        picked = log.gather(-1, targets[..., None])[..., 0]
        return -((1 - SMOOTHING) * picked + SMOOTHING * spread).mean()
