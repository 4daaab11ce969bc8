"""`prior`: correct the answers for how often each answer occurs on the device.

Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities" (2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from paramcast.methods.background import Background, Samples
from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import predictor
from paramcast.video.tasks.base import Asked


class Prior(Method):
    """logit'_a = logit_a + share · log(p_a / q_a).

    p_a and q_a are the mean probabilities of answer a on support questions and on training questions.
    """

    tasks = ("qa",)
    identity: ClassVar[Settings | None] = {"share": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the shares of the correction."""
        return [{"share": share} for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)]

    def prepare(self, background: Background) -> None:
        """Compute the mean probabilities on training clips."""
        super().prepare(background)
        self._usual = self._log_mean(background.reference, background.reference.asked)

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Move the bias of the head."""
        task, module = self.background.model.task, self.background.module()
        own = self._log_mean(support.samples, support.asked)
        cast(nn.Linear, module.head).bias.add_(float(settings["share"]) * (own - self._usual))
        return predictor(task, module, support.samples.bank)

    def _log_mean(self, samples: Samples, asked: Asked) -> Tensor:
        """Compute the logarithm of the mean probability of each answer, (A,)."""
        answer = predictor(self.background.model.task, self.background.frozen, samples.bank)
        return torch.logsumexp(answer(asked).log_softmax(-1), 0) - torch.tensor(len(asked.texts)).log()
