"""A small problem that adaptation solves: points near four corners, with an offset for each device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import paramcast as pc

CORNERS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)


class Corners(nn.Module):
    """Classifies the corner from two separate inputs, `x` and `y`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Compute logits (N, 4) from two columns (N, 1)."""
        return {"logits": self.head(F.gelu(self.first(torch.cat([x, y], -1))))}


def corners(
    count: int,
    seed: int,
    *,
    offset: float = 1.0,
    examples: int = 40,
    keywords: bool = False,
    domain: bool = False,
) -> list[pc.DeviceData]:
    """Make devices that differ in their offset; every two devices share a group."""
    rng, made = np.random.default_rng(seed), []
    for place in range(count):
        moved = (rng.normal(size=2) * offset).astype(np.float32)
        labels = rng.integers(4, size=examples)
        points = (CORNERS[labels] + moved + 0.3 * rng.normal(size=(examples, 2))).astype(np.float32)
        x, y = points[:, :1], points[:, 1:]
        made.append(
            pc.DeviceData(
                f"s{seed}-{place}",
                {"x": x, "y": y} if keywords else (x, y),
                labels,
                group=f"s{seed}-{place // 2}",
                domain=moved if domain else None,
            )
        )
    return made
