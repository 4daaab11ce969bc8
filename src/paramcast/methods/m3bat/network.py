"""Encoders, domain discriminators and the network of branches, for many networks side by side.

All networks of a fit are trained at once: every weight has a leading axis M with one entry for each network,
and the networks do not interact. On small tables that costs little more than training one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Members = tuple[()] | tuple[int]
_CHANNELS = (16, 24)
_KERNELS = (8, 5)
_STRIDES = (4, 2)
_LEAST_VARIANCE = 1e-5
"""Added to the variance of a unit over time, since the gradient of a square root is infinite at 0."""


def reverse_gradient(x: Tensor) -> Tensor:
    """Return x in the forward pass, and minus the gradient in the backward pass (Ganin et al., JMLR 2016)."""
    return 2 * x.detach() - x


class Linear(nn.Module):
    """A linear layer, or M side by side, with torch's initialization or zeros.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        members: () for one layer, (M,) for M.
        zero: Initialize with zeros.
    """

    def __init__(self, inputs: int, outputs: int, members: Members = (), zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(_uniform(bound, *members, inputs, outputs))
        self.bias = nn.Parameter(_uniform(bound, *members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute (..., N, inputs) -> (..., N, outputs)."""
        return x @ self.weight + self.bias


class Convolution(nn.Module):
    """M strided 1-D convolutions side by side."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, members: Members) -> None:
        super().__init__()
        self.stride = stride
        bound = 1 / math.sqrt(inputs * kernel)
        self.weight = nn.Parameter(_uniform(bound, *members, outputs, inputs, kernel))
        self.bias = nn.Parameter(_uniform(bound, *members, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, M * inputs, T) -> (N, M * outputs, about T / stride)."""
        weight = self.weight.flatten(0, 1)
        padding, groups = weight.shape[-1] // 2, len(self.weight)
        return F.conv1d(x, weight, self.bias.flatten(), stride=self.stride, padding=padding, groups=groups)


class TableEncoder(nn.Sequential):
    """Encoder of table rows: (..., N, F) -> (..., N, hidden)."""

    def __init__(self, features: int, hidden: int, dropout: float, members: Members = ()) -> None:
        super().__init__(
            Linear(features, hidden, members),
            nn.ReLU(),
            nn.Dropout(dropout),
            Linear(hidden, hidden, members),
            nn.ReLU(),
        )


class WindowEncoder(nn.Module):
    """Encoder of windows: (M, N, C, T) -> (M, N, hidden), for any length T >= 1.

    It has 1-D convolutions, then mean and deviation over time. The size of a signal's movements shows the
    activity, even if a sensor is worn the other way round.
    """

    def __init__(self, channels: int, hidden: int, dropout: float, members: Members) -> None:
        super().__init__()
        narrow, wide = _CHANNELS
        self.first = Convolution(channels, narrow, _KERNELS[0], _STRIDES[0], members)
        self.second = Convolution(narrow, wide, _KERNELS[1], _STRIDES[1], members)
        self.dropout = nn.Dropout(dropout)
        self.last = Linear(2 * wide, hidden, members)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (M, N, C, T) -> (M, N, hidden)."""
        side_by_side = x.transpose(0, 1).flatten(1, 2)
        found = F.relu(self.second(F.relu(self.first(side_by_side))))
        found = found.view(len(found), len(x), -1, found.shape[-1])
        deviation = (found.var(-1, correction=0) + _LEAST_VARIANCE).sqrt()
        pooled = torch.cat([found.mean(-1), deviation], dim=-1)
        return F.relu(self.last(self.dropout(pooled.transpose(0, 1))))


class Discriminator(nn.Sequential):
    """Domain discriminator: (..., N, D) representation -> (..., N, 1) logit of being target."""

    def __init__(self, dim: int, hidden: int, members: Members = ()) -> None:
        super().__init__(Linear(dim, hidden, members), nn.ReLU(), Linear(hidden, 1, members))


class BranchNetwork(nn.Module):
    """M networks: a shared encoder of all columns and one encoder for each branch. Linear heads are added up.

    The branches' heads start at zero, so that opening the branches does not change the output.

    Args:
        members: M, number of networks.
        branches: Columns (or channels) of each branch; one branch alone is the shared encoder.
        columns: Number of all columns (or channels).
        windows: Whether inputs are raw windows (C, T) rather than rows of a table (F,).
        outputs: Number of classes, or 1 for regression.
        hidden: Width of every representation.
        dropout: Share of units dropped in training, in [0, 1).
        joint: Use one discriminator for all representations together, instead of one for each.
    """

    def __init__(
        self,
        members: int,
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
        side_by_side = (members,)
        self.members = members
        self.columns = [list(range(columns)), *(list(map(int, branch)) for branch in specific)]
        self.encoders = nn.ModuleList(
            encoder(len(mine), hidden, dropout, side_by_side) for mine in self.columns
        )
        self.heads = nn.ModuleList(
            Linear(hidden, outputs, side_by_side, zero=number > 0) for number in range(len(self.columns))
        )
        self.joint = joint
        self.width = hidden * len(self.columns)
        self.discriminators = nn.ModuleList(
            [Discriminator(self.width, hidden, side_by_side)]
            if joint
            else [Discriminator(hidden, max(1, hidden // 2), side_by_side) for _ in self.columns]
        )

    def take(self, members: Sequence[int]) -> None:
        """Keep these networks, in this order; an index may occur more than once."""
        for parameter in self.parameters():
            parameter.data = parameter.data[list(members)]
        self.members = len(members)

    def encode(self, x: Tensor, opened: bool = True) -> list[Tensor]:
        """Compute representations (M, N, hidden): the shared one, then one for each branch if these are open.

        Args:
            x: (M, N, F) or (M, N, C, T), separate rows for every network.
            opened: Whether the branches are used.
        """
        used = len(self.columns) if opened else 1
        return [
            encoder(x[:, :, columns])
            for encoder, columns in zip(self.encoders[:used], self.columns[:used], strict=True)
        ]

    def predict(self, encoded: Sequence[Tensor]) -> Tensor:
        """Compute representations -> (M, N, outputs)."""
        return torch.stack([head(z) for head, z in zip(self.heads, encoded, strict=False)]).sum(0)

    def domains(self, encoded: Sequence[Tensor]) -> list[Tensor]:
        """Compute logits (M, N) of being target for each discriminator, behind a gradient reversal."""
        reversed_ = [reverse_gradient(z) for z in encoded]
        if self.joint:
            together = torch.cat(reversed_, dim=-1)
            # Branches that are not open yet are filled with zeros.
            reversed_ = [F.pad(together, (0, self.width - together.shape[-1]))]
        return [d(z)[..., 0] for d, z in zip(self.discriminators, reversed_, strict=False)]


def _uniform(bound: float, *shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound) if bound else torch.zeros(shape)
