"""`t3a`: prototypes of answers, moved by what the device is sure of.

Iwasawa, Matsuo, "Test-time classifier adjustment module for model-agnostic domain generalization"
(NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import fused, predictor


class T3a(Method):
    """Direction of answer a: mean of w_a / |w_a| and of the M surest support features answered a.

    The paper's prototypes have unit norms and no bias; here each answer keeps its own, without which rare
    answers of so long a list would be as likely as common ones. And features count from the training mean, or
    what all have in common would speak for every answer that was given at all.
    """

    tasks = ("qa",)
    identity: ClassVar[Settings | None] = {"kept": 0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Features kept an answer; the paper's choices, the largest being all."""
        return [{"kept": kept} for kept in (1, 5, 20, 50, 100, 10_000)]

    def prepare(self, background: Background) -> None:
        """The mean of what the head is given of training clips."""
        super().prepare(background)
        reference = background.reference
        with torch.no_grad():
            seen = fused(background.model.task, background.frozen, reference.bank, reference.asked)
        self._mean = seen.mean(0)

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Answer the support questions, keep the surest of each answer, average."""
        module, bank = self.background.module(), support.samples.bank
        head = cast(nn.Linear, module.head)
        with torch.no_grad():
            z = fused(self.background.model.task, module, bank, support.asked)
            log = head(z).log_softmax(-1)
        kept = self._surest(log, int(settings["kept"]))
        answers = log.argmax(-1)[kept]
        norms = head.weight.norm(dim=1, keepdim=True)
        total = head.weight / norms
        total = total.index_add(0, answers, F.normalize(z[kept] - self._mean, dim=-1))
        counts = 1 + torch.bincount(answers, minlength=len(total))
        moved = norms * total / counts[:, None]
        head.bias.add_((head.weight - moved) @ self._mean)  # the head of z - mean, moved back
        head.weight.copy_(moved)
        return predictor(self.background.model.task, module, bank)

    def _surest(self, log: Tensor, most: int) -> Tensor:
        """(n,) int64: rows of log probabilities (N, A), by answer the `most` of lowest entropy."""
        uncertain = -(log.exp() * log).sum(-1)
        answers, chosen = log.argmax(-1), []
        for answer in set(answers.tolist()):
            rows = (answers == answer).nonzero()[:, 0]
            chosen.append(rows[uncertain[rows].argsort()[:most]])
        return torch.cat(chosen)
