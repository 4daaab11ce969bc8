"""Patterns: what they take of a module, and what they say when they take nothing."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from paramcast.adapters import TargetError, select_targets


def net() -> nn.Module:
    block = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.LayerNorm(3))
    return nn.ModuleDict({"block": block, "head": nn.Linear(3, 2), "norm": nn.BatchNorm1d(3, affine=False)})


def names(module: nn.Module, *patterns: str) -> list[str]:
    return list(select_targets(module, patterns))


def test_patterns_match_modules_and_parameters() -> None:
    module = net()
    assert names(module, "block") == ["block.0.weight", "block.0.bias", "block.2.weight", "block.2.bias"]
    assert names(module, "block", "head") == names(module, "*")
    assert names(module, "*.bias") == ["block.0.bias", "block.2.bias", "head.bias"]
    assert names(module, "block.?", "!*.bias") == ["block.0.weight", "block.2.weight"]
    assert names(module, "head.weight") == ["head.weight"]
    assert list(select_targets(module, "head")) == ["head.weight", "head.bias"]
    assert select_targets(module, ["head"])["head.weight"] is module["head"].weight  # type: ignore[index]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["hed"], r"'hed' matches no module and no parameter; possible names: head"),
        (["block.1"], r"'block.1' matches block.1, a GELU without parameters"),
        (["norm"], r"match only running statistics, which NormStatistics\(\) adapts"),
        (["head", "!haed"], r"'!haed' matches no module"),
        (["head", "!head"], r"nothing is left"),
        (["!head"], r"at least one pattern"),
        ([], r"at least one pattern"),
    ],
)
def test_a_pattern_that_takes_nothing_says_why(patterns: list[str], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        select_targets(net(), patterns)


def test_a_root_layer_and_root_parameters_can_be_taken() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.inner = nn.Linear(2, 2)

    assert names(nn.Linear(2, 2), "*") == names(nn.Linear(2, 2), "") == ["weight", "bias"]
    assert names(Scaled(), "scale") == ["scale"]


def test_tied_weights_are_one_target_under_their_first_name() -> None:
    module = nn.ModuleDict({"first": nn.Linear(3, 3), "second": nn.Linear(3, 3)})
    module["second"].weight = module["first"].weight
    assert names(module, "second") == ["first.weight", "second.bias"]
    assert names(module, "*", "!second.weight") == ["first.bias", "second.bias"]


def test_a_weight_that_is_computed_means_the_parameters_that_it_is_computed_from() -> None:
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    assert names(new, "0.weight") == [
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
    ]
    assert len(names(new, "0")) == 3
    spectral = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
    assert names(spectral, "0.weight") == ["0.parametrizations.weight.original"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)))
    assert set(names(old, "0.weight")) == {"0.weight_g", "0.weight_v"}


def test_compiled_modules_have_the_names_that_they_had_before() -> None:
    module = nn.Sequential(nn.Linear(3, 3), torch.compile(nn.Linear(3, 2), backend="eager"))
    assert names(module, "1") == ["1.weight", "1.bias"]
    assert names(torch.compile(module, backend="eager"), "1") == ["1.weight", "1.bias"]


def test_what_cannot_be_adapted_says_so() -> None:
    with pytest.raises(TargetError, match="run the module once"):
        select_targets(nn.Sequential(nn.LazyLinear(3)), ["0"])
    integers = nn.Module()
    integers.table = nn.Parameter(torch.arange(3), requires_grad=False)
    with pytest.raises(TargetError, match="table, which cannot be adapted: its numbers are int64"):
        select_targets(integers, ["*"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_traced_modules_are_refused_by_name() -> None:
    scripted = nn.Sequential(nn.Linear(2, 2), torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(TargetError, match=r"'1' is a scripted or traced module \(Linear\)"):
        select_targets(scripted, ["0"])
    traced = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(TargetError, match="the module is a scripted or traced"):
        select_targets(traced, ["*"])
