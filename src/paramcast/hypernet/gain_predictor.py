"""Who gets a package: only devices that are likely to gain by it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class GainPredictor(nn.Module):
    """Refuses packages of too small an expected gain, a linear function of what the FDA made of the context.

    It is fitted when the adaptor is trained, on devices whose gain is known (`training.gates`). Until then it
    lets every package pass.

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
        """The gain that is to be expected, in percent points of the task's figures; (B, H) -> (B,)."""
        expected: Tensor = hidden @ self.weight + self.bias
        return expected

    def forward(self, hidden: Tensor) -> Tensor:
        """Which devices get their package: (B, H) -> (B,) bool."""
        return self.gain(hidden) > self.threshold
