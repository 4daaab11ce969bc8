"""The fast path of known layers, against the definition: batches of devices, and parts called by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from truth import hooks_of

from paramcast.adapters import (
    AdaptedModule,
    Basis,
    Full,
    LowRank,
    NormStatistics,
    Residual,
    TargetError,
    ValuesError,
    build_adapter,
    config_name,
)

DEVICES, ROWS = 3, 2  # rows of each device
CONFIGS = [Basis(5), LowRank(2), Residual(), Full()]
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), (6,)),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), (6,)),
    "linear on 3-d": (lambda: nn.Linear(6, 5), (4, 6)),
    "linear on 4-d": (lambda: nn.Linear(6, 5), (2, 3, 6)),
    "layernorm": (lambda: nn.LayerNorm(6), (4, 6)),
    "layernorm without bias": (lambda: nn.LayerNorm(6, bias=False), (6,)),
    "layernorm over two axes": (lambda: nn.LayerNorm((4, 6)), (4, 6)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (3, 7, 8)),
    "conv2d 1x1 without bias": (lambda: nn.Conv2d(3, 4, 1, bias=False), (3, 5, 5)),
    "conv2d strided": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 9, 8)),
    "conv2d dilated": (lambda: nn.Conv2d(3, 4, (3, 2), dilation=2, padding=(2, 1)), (3, 9, 8)),
    "conv2d padded to the same size": (lambda: nn.Conv2d(3, 4, 3, padding="same"), (3, 6, 6)),
    "conv2d padded by reflection": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 5, stride=2, padding=2), (3, 11)),
    "conv1d grouped": (lambda: nn.Conv1d(4, 6, 3, groups=2, bias=False), (4, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 3, (3, 2, 2), padding=(1, 0, 0)), (2, 4, 5, 3)),
    "conv2d grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 6, 6)),
}


def built(config: Any, case: str, patterns: tuple[str, ...] = ("*",)) -> tuple[AdaptedModule, Tensor]:
    """An adapted module of one layer of random parameters, and an input for all devices."""
    torch.manual_seed(len(case))
    layer, shape = CASES[case][0](), CASES[case][1]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    module = nn.Sequential(layer)
    return AdaptedModule(module, build_adapter(config, module, patterns)), torch.randn(DEVICES * ROWS, *shape)


def values_for(adapted: AdaptedModule) -> dict[str, Tensor]:
    return {name: torch.randn(DEVICES, *shape) for name, shape in adapted.adapter.shapes.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_the_fast_path_is_the_definition(config: Any, case: str) -> None:
    adapted, x = built(config, case)
    values = values_for(adapted)
    rows = list(x.split(ROWS))
    wanted = [adapted(own, {n: v[i] for n, v in values.items()}) for i, own in enumerate(rows)]
    for one, other in zip(wanted, adapted.in_mode("fast", rows, values), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)
    with adapted.use(values) as module:
        torch.testing.assert_close(module(x), torch.cat(wanted), atol=2e-4, rtol=1e-4)
    with adapted.use({name: value[0] for name, value in values.items()}) as module:
        torch.testing.assert_close(module(rows[0]), wanted[0], atol=2e-4, rtol=1e-4)
    assert hooks_of(adapted.replica) == hooks_of(adapted.module) == 0
    assert adapted.check(rows).mode == "fast"


@pytest.mark.parametrize("case", ["linear", "layernorm", "conv1d", "conv2d"])
@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_biases_alone_may_be_targets(config: Any, case: str) -> None:
    adapted, x = built(config, case, ("0.bias",))
    values, rows = values_for(adapted), list(x.split(ROWS))
    found = adapted.in_mode("fast", rows, values)
    for i, own in enumerate(rows):
        wanted = adapted(own, {n: v[i] for n, v in values.items()})
        torch.testing.assert_close(found[i], wanted, atol=1e-4, rtol=1e-4)
        assert (wanted - adapted(own)).abs().max() > 0.01


@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_weights_alone_may_be_targets(config: Any) -> None:
    adapted, x = built(config, "linear", ("0.weight",))
    values, rows = values_for(adapted), list(x.split(ROWS))
    for i, found in enumerate(adapted.in_mode("fast", rows, values)):
        wanted = adapted(rows[i], {n: v[i] for n, v in values.items()})
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_values_nest_and_are_put_back_after_an_error() -> None:
    adapted, x = built(Residual(), "linear")
    values = values_for(adapted)
    one = {name: value[0] for name, value in values.items()}
    plain, edited = adapted(x), adapted(x, one)
    with adapted.use(one) as module:
        torch.testing.assert_close(adapted(x), plain)  # an inner call says for itself what it runs under
        torch.testing.assert_close(module(x), edited)
        with adapted.use(None):
            torch.testing.assert_close(module(x), plain)
        torch.testing.assert_close(module(x), edited)
    with pytest.raises(RuntimeError), adapted.use(one) as module:
        module(torch.randn(1, 3))
    torch.testing.assert_close(adapted.replica(x), plain)
    assert hooks_of(adapted.replica) == 0


def test_two_adapters_share_one_module() -> None:
    module = nn.Sequential(nn.Linear(3, 3))
    first, second = (AdaptedModule(module, build_adapter(c, module, ["0"])) for c in (Full(), Basis(4)))
    x, plain = torch.randn(2, 3), module(torch.zeros(2, 3))
    with second.use(second.adapter.probe_values()) as replica:
        assert not torch.allclose(replica(torch.zeros(2, 3)), plain)
        torch.testing.assert_close(first.replica(x), module(x))


def test_rows_that_do_not_fit_the_devices_are_named() -> None:
    adapted, x = built(Basis(5), "linear")
    with (
        adapted.use(values_for(adapted)) as module,
        pytest.raises(ValuesError, match=r"layer '0'.*3 devices"),
    ):
        module(x[:4])


def test_other_classes_have_no_fast_path() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    norm = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    for module, config in [(Scaled(3, 3), Basis(3)), (tied, Basis(3)), (norm, (Basis(3), NormStatistics()))]:
        adapted = AdaptedModule(module, build_adapter(config, module, ["*"]))
        with pytest.raises(TargetError, match="as a whole"), adapted.use(adapted.adapter.base_values()):
            pass
        assert adapted.check([torch.randn(2, 3)]).mode == "vmap"
        with adapted.use(None) as replica:
            assert replica(torch.randn(2, 3)).shape == (2, 3)


def test_time_first_layouts_are_not_taken_for_rows() -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.transpose(0, 1)).transpose(0, 1)

    for time in (6, 5):  # a multiple of the devices, and none
        module = TimeFirst()
        adapted = AdaptedModule(module, build_adapter(Basis(4), module, ["*"]))
        report = adapted.check([torch.randn(2, time, 4) for _ in range(DEVICES)])
        assert report.mode == "vmap"
        assert report.errors["fast"] != 0


def test_a_gradient_flows_through_the_fast_path() -> None:
    adapted, x = built(Basis(5), "conv2d")
    rows, found = list(x.split(ROWS)), {}
    for mode in ("fast", "loop"):
        adapted.adapter.zero_grad()
        codes = torch.full((DEVICES, 5), 0.3).requires_grad_()
        torch.stack(adapted.in_mode(mode, rows, {"codes": codes})).square().sum().backward()  # type: ignore[arg-type]
        found[mode] = [codes.grad, *(p.grad for p in adapted.adapter.parameters())]
    for one, other in zip(found["fast"], found["loop"], strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
