"""Small networks for users' signals. The inputs are batch-normalized first, so that they can be aligned."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTH = 32
FEATURES = 48
"""Length of the input of the last layer."""


class SignalNet(nn.Module):
    """Convolutions over windows (N, channels, samples), optionally with numbers beside them.

    `frame` mixes the channels first, so that it can correct a turned sensor or a shifted band.

    Args:
        channels: Channels of the signal.
        samples: Samples of a window.
        outputs: Number of classes, or 1 for a number.
        beside: Count of the numbers that describe an example beside its signal.
    """

    def __init__(self, channels: int, samples: int, outputs: int, beside: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, length = channels, samples
        for kernel in (5, 5, 3):
            stride = 2 if length >= 40 else 1
            layers += [
                nn.Conv1d(width, WIDTH, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm1d(WIDTH),
                nn.ReLU(),
            ]
            width, length = WIDTH, length // stride
        self.norm = nn.BatchNorm1d(channels)
        self.frame = nn.Conv1d(channels, channels, 1)
        nn.init.dirac_(self.frame.weight)
        nn.init.constant_(self.frame.get_parameter("bias"), 0.0)
        self.convs = nn.Sequential(*layers)
        self.beside = nn.BatchNorm1d(beside) if beside else None
        self.features = nn.Sequential(
            nn.Linear(2 * WIDTH + beside, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU()
        )
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(FEATURES, outputs)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Compute (N, channels, samples) -> (N, outputs)."""
        hidden = self.convs(self.frame(self.norm(x)))
        pooled = torch.cat([hidden.mean(-1), hidden.amax(-1)], -1)
        if self.beside is not None and beside is not None:
            pooled = torch.cat([pooled, self.beside(beside)], -1)
        out: Tensor = self.head(self.drop(self.features(pooled)))
        return out


class PictureNet(nn.Module):
    """Convolutions over pictures or spectrograms (N, 1, height, width).

    Args:
        outputs: Number of classes.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = (1, 12, 24, WIDTH)
        self.norm = nn.BatchNorm2d(1)
        self.convs = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (
                    nn.Conv2d(before, after, 3, 2, 1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
            )
        )
        self.pool = nn.AdaptiveAvgPool2d((4, 4))
        self.features = nn.Sequential(nn.Linear(WIDTH * 16, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(FEATURES, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, 1, height, width) -> (N, outputs)."""
        out: Tensor = self.head(self.drop(self.features(self.pool(self.convs(self.norm(x))).flatten(1))))
        return out
