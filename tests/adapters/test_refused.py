"""What the adapted module refuses: no effect, no right answer, values that do not fit."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from truth import adapted

from paramcast.adapters import (
    CheckError,
    Residual,
    TargetError,
    ValuesError,
)


class Compiled(nn.Module):
    """Runs a function that was compiled before: it holds the module itself in its closure."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        layer = self.layer
        self.function = lambda x: layer(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Detached(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize("net", [Compiled(), Detached(nn.Linear(3, 2))])
def test_an_update_without_any_effect_is_refused(net: nn.Module) -> None:
    with pytest.raises(CheckError, match="no target reaches the output of"):
        adapted(net).check([torch.randn(4, 3)])


class Unused(nn.Module):
    """A part that its forward never uses, and a layer behind a gate that is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        self.used, self.gated = nn.Linear(3, 2), nn.Linear(3, 2)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) + self.gate * self.gated(x)


def test_targets_without_effect_are_named_with_the_pattern_that_leaves_them_out() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(CheckError, match=r"spare.0.weight.*leave them out with '!spare' in target_modules"):
        adapted(Unused()).check([x])
    report = adapted(Unused(), "*", "!spare").check([x])
    assert report.targets == 5  # the gated layer too, although its gate is shut


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x) + 0.1 * self.calls


class Random(nn.Linear):
    """Draws in evaluation mode too, as ViLT does for the order of its patches."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, torch.randperm(self.out_features)]


def test_what_cannot_be_right_is_refused_by_name() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(CheckError, match=r"Random gives other outputs for the same inputs.* random numbers"):
        adapted(Random(3, 64)).check([x])
    with pytest.raises(CheckError, match="Noisy gives other outputs for the same inputs"):
        adapted(Noisy(3, 2)).check([x])
    with pytest.raises(CheckError, match="at least one device"):
        adapted(nn.Linear(3, 2)).check([])
    held = nn.Linear(3, 2)
    held.lock = threading.Lock()
    with pytest.raises(TargetError, match="Linear cannot be copied"):
        adapted(held)
    with pytest.raises(CheckError, match="NaN before any update"):
        adapted(nn.Linear(3, 2)).check([x * float("nan")])


def test_values_that_do_not_fit_are_refused() -> None:
    each, x = adapted(nn.Linear(3, 2), config=Residual()), torch.randn(4, 3)
    good = each.adapter.base_values()
    for bad in (
        {"bias": good["bias"]},
        good | {"bias": torch.zeros(1)},
        good | {"more": torch.zeros(1)},
        good | {"bias": torch.full((2,), float("nan"))},
    ):
        with pytest.raises(ValuesError):
            each(x, bad)
        with pytest.raises(ValuesError):
            each.batched([x, x], {name: value.expand(2, *value.shape) for name, value in bad.items()})
