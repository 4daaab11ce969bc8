"""Gain predictor: decides which devices get an update."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class GainPredictor(nn.Module):
    """Refuses updates with a too small expected gain, which is a linear function of the FDA's hidden vector.

    It is fitted after the hypernetwork is trained, on devices with known gains (`training.gates`). Until then
    it accepts every update.

    Args:
        dim: Length H of the FDA's hidden vector.
    """

    weight: Tensor
    bias: Tensor
    threshold: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(dim))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("threshold", torch.tensor(-math.inf))

    def gain(self, hidden: Tensor) -> Tensor:
        """Compute the expected gain in percent points of the task's score; (B, H) -> (B,)."""
        expected: Tensor = hidden @ self.weight + self.bias
        return expected

    def forward(self, hidden: Tensor) -> Tensor:
        """Decide which devices get their update: (B, H) -> (B,) bool."""
        return self.gain(hidden) > self.threshold
