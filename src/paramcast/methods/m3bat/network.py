"""Encoders, domain discriminators and the network of branches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = (24, 48)


def reverse_gradient(x: Tensor) -> Tensor:
    """Identity on the way forward, minus the gradient on the way back (Ganin et al., JMLR 2016)."""
    return 2 * x.detach() - x


class TableEncoder(nn.Sequential):
    """(N, F) -> (N, hidden)."""

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )


class WindowEncoder(nn.Sequential):
    """(N, C, T) -> (N, hidden), for any length T >= 1: 1-D convolutions, then the mean over time."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        narrow, wide = _CHANNELS
        super().__init__(
            nn.Conv1d(channels, narrow, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv1d(narrow, wide, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(wide, hidden),
            nn.ReLU(),
        )


class Discriminator(nn.Sequential):
    """(N, D) representation -> (N, 1) logit of being target."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))


class BranchNetwork(nn.Module):
    """A shared encoder of all columns, beside it one encoder a branch; linear heads that are added up.

    The branches' heads start at zero, so that the network is exactly the shared one at the moment at which
    its branches open.

    Args:
        branches: Columns (or channels) of each branch; one branch alone is the shared encoder.
        columns: Number of columns (or channels) in all.
        windows: Whether inputs are raw windows (N, C, T) rather than tables (N, F).
        outputs: Number of classes, or 1 for regression.
        hidden: Width of every representation.
        dropout: Share of units dropped in training, in [0, 1).
        joint: One discriminator of all representations together, instead of one for each.
    """

    def __init__(
        self,
        branches: Sequence[Iterable[int]],
        columns: int,
        windows: bool,
        outputs: int,
        hidden: int,
        dropout: float,
        joint: bool,
    ) -> None:
        super().__init__()
        encoder = WindowEncoder if windows else TableEncoder
        specific = branches if len(branches) > 1 else ()
        self.columns = [list(range(columns)), *(list(map(int, branch)) for branch in specific)]
        self.encoders = nn.ModuleList(encoder(len(mine), hidden, dropout) for mine in self.columns)
        heads = [nn.Linear(hidden, outputs, bias=number == 0) for number in range(len(self.columns))]
        for head in heads[1:]:
            nn.init.zeros_(head.weight)
        self.heads = nn.ModuleList(heads)
        self.joint = joint
        self.width = hidden * len(self.columns)
        self.discriminators = nn.ModuleList(
            [Discriminator(self.width, hidden)]
            if joint
            else [Discriminator(hidden, hidden // 2) for _ in self.columns]
        )

    def encode(self, x: Tensor, opened: bool = True) -> list[Tensor]:
        """Representations (N, hidden): the shared one, then (if the branches are opened) one a branch."""
        used = len(self.columns) if opened else 1
        return [
            encoder(x[:, columns])
            for encoder, columns in zip(self.encoders[:used], self.columns[:used], strict=True)
        ]

    def predict(self, encoded: Sequence[Tensor]) -> Tensor:
        """Representations -> (N, outputs)."""
        return torch.stack([head(z) for head, z in zip(self.heads, encoded, strict=False)]).sum(0)

    def domains(self, encoded: Sequence[Tensor]) -> list[Tensor]:
        """Logits (N,) of being target, one tensor a discriminator, behind a gradient reversal."""
        reversed_ = [reverse_gradient(z) for z in encoded]
        if self.joint:
            together = torch.cat(reversed_, dim=1)
            # Branches that are not open yet are silent.
            reversed_ = [F.pad(together, (0, self.width - together.shape[1]))]
        return [d(z)[:, 0] for d, z in zip(self.discriminators, reversed_, strict=False)]
