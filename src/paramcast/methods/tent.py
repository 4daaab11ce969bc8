"""`tent`: entropy minimization over the affine parameters of the norms, by back-propagation on the device.

Wang et al., "Tent: fully test-time adaptation by entropy minimization" (arXiv 2006.10726).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import entropy, few_a_clip, logits, predictor
from paramcast.methods.statistics import norms_of


class Tent(Method):
    """Adam on weights and biases of the LayerNorms; without LayerNorms, on the norms of the features.

    The paper adapts on the batch that it answers. Here all methods adapt on the support set.
    """

    identity: ClassVar[Settings | None] = {"rate": 0.0, "steps": 1}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of learning rate and number of steps."""
        return [{"rate": rate, "steps": steps} for rate in (1e-4, 1e-3, 1e-2) for steps in (1, 10)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Minimize the mean entropy of the answers to support questions, or of the captions' candidates."""
        task, module = self.background.model.task, self.background.module()
        affine = [tensor.requires_grad_() for tensor in _affine(module)]
        asked = few_a_clip(task, support.asked)
        optimizer = torch.optim.Adam(affine, lr=float(settings["rate"]))
        for _ in range(int(settings["steps"])):
            optimizer.zero_grad()
            entropy(logits(task, module, support.samples.bank, asked)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return predictor(task, module, support.samples.bank)


def _affine(module: nn.Module) -> list[Tensor]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.LayerNorm)]
    if layers:
        return [parameter for layer in layers for parameter in layer.parameters()]
    return [tensor for norm in norms_of(module).values() for tensor in (norm.mean, norm.scale)]
