"""Parts that the models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureNorm(nn.Module):
    """Standardize frozen features by the statistics of the training set, which are buffers.

    Args:
        dim: Length D of a feature.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def fit(self, features: Tensor) -> None:
        """Set mean and scale from features (N, D / k) float32; inputs are k such features, concatenated."""
        sides = len(self.mean) // features.shape[1]
        self.mean.copy_(features.mean(0).repeat(sides))
        self.scale.copy_(1 / features.std(0).clamp(min=1e-4).repeat(sides))

    def forward(self, x: Tensor) -> Tensor:
        """Standardize x (..., D) to about zero mean and unit variance."""
        return (x - self.mean) * self.scale


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean (..., D) of x (..., T, D) over the frames where mask (..., T) is True."""
    weights = mask.to(x.dtype)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
    return (weights[..., None, :] @ x)[..., 0, :]
