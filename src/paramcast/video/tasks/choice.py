"""Multiple choice: the right answer among a few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from paramcast.video.data.options import OPTIONS
from paramcast.video.models.choice import ChoiceModel
from paramcast.video.tasks.qa import QuestionAnswering
from paramcast.video.training.bank import Bank


class MultipleChoice(QuestionAnswering):
    """Questions as in `qa`; the wrong options are drawn from the known answers, always the same ones."""

    name = "choice"
    targets = ChoiceModel.targets
    options = OPTIONS

    def build(self, image_dim: int, text_dim: int, shared_dim: int, answers: Sequence[str]) -> nn.Module:
        """See `ChoiceModel`."""
        return ChoiceModel(image_dim, text_dim)

    def _logits(
        self, model: nn.Module, bank: Bank, frames: Tensor, mask: Tensor, items: np.ndarray
    ) -> Tensor:
        """Logits (..., N, options) of items (..., N, 3 + options)."""
        logits: Tensor = model(frames, mask, bank.texts[items[..., 1]], bank.texts[items[..., 3:]])
        return logits
