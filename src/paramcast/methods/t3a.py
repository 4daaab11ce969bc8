"""`t3a`: prototypes of answers, moved by the support features with confident predictions.

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
    """Direction of answer a: mean of w_a / |w_a| and of M support features that the model answers with a.

    The M features are the ones with the lowest entropy. The paper's prototypes have unit norms and no bias.
    Here each answer keeps its norm and its bias; without them, rare answers of the long list would be as
    likely as common ones. The training mean is subtracted from the features; otherwise the part that all
    features share would raise every answer that the model gave at least once.
    """

    tasks = ("qa",)
    identity: ClassVar[Settings | None] = {"kept": 0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the features kept for an answer, as in the paper; the largest keeps all."""
        return [{"kept": kept} for kept in (1, 5, 20, 50, 100, 10_000)]

    def prepare(self, background: Background) -> None:
        """Compute the mean input of the head over training clips."""
        super().prepare(background)
        reference = background.reference
        with torch.no_grad():
            seen = fused(background.model.task, background.frozen, reference.bank, reference.asked)
        self._mean = seen.mean(0)

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Answer the support questions, keep the most confident ones of each answer, and average them."""
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
        """Return rows (n,) int64 of log probabilities (N, A): for each answer the `most` least uncertain."""
        uncertain = -(log.exp() * log).sum(-1)
        answers, chosen = log.argmax(-1), []
        for answer in set(answers.tolist()):
            rows = (answers == answer).nonzero()[:, 0]
            chosen.append(rows[uncertain[rows].argsort()[:most]])
        return torch.cat(chosen)
