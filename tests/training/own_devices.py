"""A model of one's own and devices for it: points about four corners, moved by an offset of each device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from paramcast.training.own import OwnDevice
from torch import Tensor, nn
from torch.nn import functional as F

CORNERS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)


class Corners(nn.Module):
    """Which corner: from two inputs that are called apart, to show that a module may take several."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two columns (N, 1) -> (N, 4)."""
        logits: Tensor = self.head(F.gelu(self.first(torch.cat([x, y], -1))))
        return logits


def corners_devices(
    count: int, seed: int = 0, offset: float = 1.0, examples: int = 40, truth: bool = False
) -> list[OwnDevice]:
    """Devices named by the seed; their context is the point itself and a useless number."""
    rng = np.random.default_rng(seed)
    devices = []
    for place in range(count):
        moved = rng.normal(size=2).astype(np.float32) * offset
        labels = rng.integers(4, size=examples)
        points = CORNERS[labels] + moved + 0.3 * rng.normal(size=(examples, 2)).astype(np.float32)
        points = points.astype(np.float32)
        useless = rng.normal(size=(examples, 1)).astype(np.float32)
        devices.append(
            OwnDevice(
                f"s{seed}-{place}",
                (torch.from_numpy(points[:, :1]), torch.from_numpy(points[:, 1:])),
                torch.from_numpy(labels),
                np.concatenate([points, useless], 1),
                group=f"s{seed}-{place // 2}",
                truth=moved if truth else None,
            )
        )
    return devices


def fit_corners(module: nn.Module, devices: Sequence[OwnDevice], steps: int = 60) -> None:
    """Train the module in place."""
    inputs = [torch.cat([device.inputs[i] for device in devices]) for i in range(2)]
    labels = torch.cat([device.labels for device in devices])
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(steps):
        loss = F.cross_entropy(module(*inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
