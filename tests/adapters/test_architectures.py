"""Many architectures under every adapter: an update is its definition; nothing is mixed or left behind."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, NEEDS, another, is_missing
from torch import Tensor, nn
from truth import hooks_of, run, written

from paramcast.adapters import (
    AdaptedModule,
    Basis,
    Full,
    LowRank,
    NormStatistics,
    Residual,
    build_adapter,
    config_name,
)
from paramcast.adapters.checking import difference
from paramcast.adapters.targets import has_statistics
from paramcast.adapters.trees import floats_of

TOLERANCE = 1e-4
OTHERS: list[Any] = [LowRank(2), Residual(), Full(), (Basis(3), NormStatistics())]
WITH_TIME_FIRST = {"TransformerEncoder, time first", "LSTM, time first, two ways", "transformers XLNet"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Warnings of other packages about their own code are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def built(name: str) -> tuple[nn.Module, Any, list[str]]:
    if package := is_missing(name):
        pytest.skip(f"{package} is not installed; `make test` does so")
    return ARCHITECTURES[name]()


def test_there_are_enough_of_them() -> None:
    assert len(ARCHITECTURES) - len(NEEDS) >= 40
    assert set(ARCHITECTURES) >= WITH_TIME_FIRST


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_update_is_the_same_edit_written_into_the_module(name: str) -> None:
    module, inputs, patterns = built(name)
    run(module, inputs)  # some keep functions from their first run on, and can no longer be pickled
    state = {key: value.clone() for key, value in module.state_dict().items()}
    pickles, hooks = pickled(module), hooks_of(module)
    adapted = AdaptedModule(module, build_adapter(Basis(4), module, patterns))
    devices = [another(inputs, seed) for seed in range(2)]
    adapted.check(devices)  # base values change nothing; a gradient reaches every target; three devices
    _shown(adapted, devices)
    with_others(module, devices[0], patterns)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert (pickled(module), hooks_of(module)) == (pickles, hooks)
    assert difference(run(copy.deepcopy(module), devices[0]), run(module, devices[0])) == 0


def _shown(adapted: AdaptedModule, devices: list[Any]) -> None:
    """Two devices in a batch are each device alone, which is the edit written into a copy of the module."""
    each = [adapted.adapter.probe_values(seed, 2.0) for seed in (5, 6)]
    values = {key: torch.stack([own[key] for own in each]) for key in each[0]}
    with torch.no_grad():
        together = adapted.batched(devices, values)
        swapped = adapted.batched(devices, {key: value.flip(0) for key, value in values.items()})
        for place, (x, own) in enumerate(zip(devices, each, strict=True)):
            truth = run(written(adapted.module, adapted.adapter, own), x)
            assert difference(truth, adapted(x, own)) < TOLERANCE
            assert difference(truth, together[place]) < TOLERANCE
            assert difference(truth, adapted(x)) > 1e-3
            assert difference(truth, swapped[place]) > 1e-3


def with_others(module: nn.Module, inputs: Any, patterns: list[str]) -> None:
    """Every other adapter: base values, the definition, and a gradient at every generated tensor."""
    normed = any(has_statistics(part) for part in module.modules())
    with torch.no_grad():
        plain = run(module, inputs)
    for config in OTHERS if normed and "*" in patterns else OTHERS[:3]:
        adapted = AdaptedModule(module, build_adapter(config, module, patterns))
        values = {key: value.requires_grad_() for key, value in adapted.adapter.probe_values(7).items()}
        found = adapted(inputs, values)
        with torch.no_grad():
            assert difference(plain, adapted(inputs, adapted.adapter.base_values())) < TOLERANCE
            truth = run(written(module, adapted.adapter, values), inputs)
        assert difference(truth, found) < TOLERANCE, config_name(config)
        assert difference(truth, plain) > 1e-4, config_name(config)
        draws = torch.Generator().manual_seed(3)
        outputs = [x for x in floats_of(found) if x.requires_grad]
        total = sum((x * torch.randn(x.shape, generator=draws)).abs().sum() for x in outputs)
        gradients = torch.autograd.grad(total, list(values.values()), allow_unused=True)  # type: ignore[arg-type]
        without = [key for key, g in zip(values, gradients, strict=True) if not _reached(g)]
        assert without == [], config_name(config)


def _reached(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())


def pickled(module: nn.Module) -> bool:
    """Whether a module can be pickled; some never could."""
    try:
        pickle.dumps(module)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", sorted(WITH_TIME_FIRST))
def test_one_row_a_device_is_not_mixed_where_time_comes_first(name: str) -> None:
    """Lengths that the number of devices divides: the layout in which rows were once mixed."""
    module, inputs, patterns = built(name)
    adapted = AdaptedModule(module, build_adapter(Residual(), module, patterns))
    adapted.check([another(inputs, seed) for seed in range(3)])
    _shown(adapted, [another(inputs, seed) for seed in (8, 9)])
