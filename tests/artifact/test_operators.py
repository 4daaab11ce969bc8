"""What the tracing exporter lacks is computed by other operations; the numbers are torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from paramcast.artifact.operators import PlainOperators

X, H = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.ones(4, 6) / 2
IMAGE = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
SQUARE = 2 * torch.randn(5, 5, generator=torch.Generator().manual_seed(2))


class Both(nn.Module):
    """A cell's two results as one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(5, 6)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.cell(x, (h, h)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: (nn.Bilinear(5, 6, 3), (X, H)),
        lambda: (nn.GRUCell(5, 6), (X, H)),
        lambda: (nn.GRUCell(5, 6, bias=False), (X, H)),
        lambda: (Both(), (X, H)),
        lambda: (nn.RNNCell(5, 6), (X, H)),
        lambda: (nn.RNNCell(5, 6, nonlinearity="relu"), (X, H)),
        lambda: (nn.InstanceNorm2d(3, affine=True), (IMAGE,)),
        lambda: (nn.InstanceNorm2d(3, track_running_stats=True).eval(), (IMAGE,)),
        lambda: (nn.RMSNorm(5), (X,)),
        lambda: (nn.RMSNorm((4, 5), eps=1e-3, elementwise_affine=False), (X,)),
        lambda: (torch.matrix_exp, (SQUARE,)),
        lambda: (torch.vdot, (X[0], X[1])),
        lambda: (lambda x: x.mH, (X,)),
        lambda: (lambda x: x[tuple(torch.triu_indices(4, 5, 1))], (X,)),
        lambda: (lambda x: x[tuple(torch.tril_indices(4, 5))], (X,)),
    ],
)
def test_the_numbers_are_torch_s(build: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    torch.manual_seed(0)
    function, inputs = build()
    with torch.no_grad():
        wanted = function(*inputs)
        with PlainOperators():
            found = function(*inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
