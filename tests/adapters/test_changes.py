"""The definition of an update: every kind against its formula, NumPy and torch alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramcast.adapters import (
    Basis,
    Full,
    HugeAdapterWarning,
    LowRank,
    NormStatistics,
    Residual,
    TargetError,
    ValuesError,
    build_adapter,
    config_name,
    dump_config,
    load_config,
)
from paramcast.errors import InputError
from paramcast.protocol import limits
from paramcast.protocol.changes import changed, tensor_name

CONFIGS = [Basis(5), LowRank(2), Residual(), Full(), NormStatistics(), (Basis(5), NormStatistics())]


def net() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 2))
    module.temperature = nn.Parameter(torch.tensor(2.0))
    with torch.no_grad():
        module[1].running_mean.normal_()
        module[1].running_var.uniform_(0.5, 2.0)
    return module


@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_numpy_and_torch_compute_the_same(config) -> None:  # type: ignore[no-untyped-def]
    adapter = build_adapter(config, net(), ["*"])
    values = adapter.probe_values(3)
    arrays = {name: value.numpy() for name, value in values.items()}
    for name, wanted in adapter.changed(values).items():
        found = adapter.targets[name].detach().numpy()
        for kind in adapter.kinds[name]:
            found = changed(kind, name, found, arrays, adapter.constants())
        assert found.shape == tuple(wanted.shape)
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
        assert not torch.equal(wanted, adapter.targets[name])


@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_base_values_are_the_base(config) -> None:  # type: ignore[no-untyped-def]
    adapter = build_adapter(config, net(), ["*"])
    base = adapter.base_values()
    assert {name: tuple(value.shape) for name, value in base.items()} == adapter.shapes
    for name, value in adapter.changed(base).items():
        assert torch.equal(value, adapter.targets[name])
    for name in adapter.shapes:
        assert limits.TENSOR_NAME.fullmatch(name)
    assert limits.FORM.fullmatch(adapter.name)


def test_each_kind_is_its_formula() -> None:
    module = net()

    def of(config: object, name: str) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        adapter = build_adapter(config, module, ["*"])  # type: ignore[arg-type]
        values = adapter.probe_values(1)
        return values, adapter.changed(values)[name], adapter.tensors()

    weight, bias, statistics = module[0].weight, module[0].bias, module[1]
    values, found, constants = of(Basis(5), "0.weight")
    edit = torch.einsum("k,ko,ki->oi", values["codes"], constants["0.weight.u"], constants["0.weight.v"])
    torch.testing.assert_close(found, weight + edit.reshape(weight.shape))
    values, found, constants = of(Basis(5), "0.bias")
    torch.testing.assert_close(found, bias + values["codes"] @ constants["0.bias.basis"])
    values, found, _ = of(LowRank(2), "0.weight")
    edit = values["0.weight.a"] @ values["0.weight.b"]
    torch.testing.assert_close(found, weight + edit.reshape(weight.shape))
    values, found, _ = of(LowRank(2), "temperature")
    torch.testing.assert_close(found, module.temperature + values["temperature"][0])
    values, found, _ = of(Residual(), "0.weight")
    torch.testing.assert_close(found, weight + values["0.weight"])
    values, found, _ = of(Full(), "0.weight")
    torch.testing.assert_close(found, values["0.weight"])
    values, found, _ = of(NormStatistics(), "1.running_mean")
    deviation = (statistics.running_var + statistics.eps).sqrt()
    torch.testing.assert_close(found, statistics.running_mean + values["1.shift"] * deviation)
    values, found, _ = of(NormStatistics(), "1.running_var")
    torch.testing.assert_close(found, statistics.running_var * values["1.scale"].exp())


def test_a_bounded_residual_stays_within_the_size_of_its_target() -> None:
    adapter = build_adapter(Residual(), net(), ["3"])
    wild = {name: 100 * torch.randn(2, *shape) for name, shape in adapter.shapes.items()}
    for name, value in adapter.bounded(wild).items():  # type: ignore[operator]
        size = adapter.targets[name].square().mean().sqrt()
        assert value.abs().max() <= size * 1.0001
        assert value.abs().max() > 0.9 * size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_targets_keep_their_dtype_and_values_are_float32(config, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    adapter = build_adapter(config, net().to(dtype), ["*"])
    values = adapter.probe_values(0)
    assert all(value.dtype == torch.float32 for value in values.values())
    assert all(value.dtype == dtype for value in adapter.changed(values).values())
    assert all(torch.equal(v, adapter.targets[n]) for n, v in adapter.changed(adapter.base_values()).items())


def test_odd_names_are_written_so_that_an_update_allows_them() -> None:
    assert tensor_name("blocks.0.attn.qkv.weight") == "blocks.0.attn.qkv.weight"
    assert tensor_name("a layer.weight") == "a_x20_layer.weight"
    assert tensor_name("größe/conv:1.weight") == "gr_xf6__xdf_e_x2f_conv_x3a_1.weight"
    for odd in ("x" * 500, ".".join("abc" * 20), "-.weight", "a--b", "é" * 60):
        assert limits.TENSOR_NAME.fullmatch(f"{tensor_name(odd)}.basis")
        assert len(tensor_name(odd)) < limits.MAX_TENSOR_NAME
    odd = nn.ModuleDict({"a layer": nn.Linear(2, 2), "conv:1": nn.Conv1d(2, 2, 1), "-": nn.Linear(2, 2)})
    for config in CONFIGS[:4]:
        adapter = build_adapter(config, odd, ["*"])
        assert all(limits.TENSOR_NAME.fullmatch(name) for name in adapter.shapes)
        changes = adapter.changed(adapter.probe_values(0))
        assert all(not torch.equal(changes[name], odd.get_parameter(name)) for name in changes)
    twins = nn.ModuleDict({"a b": nn.Linear(2, 2), "a_x20_b": nn.Linear(2, 2)})
    with pytest.raises(TargetError, match=r"a_x20_b\.bias"):
        build_adapter(Basis(), twins, ["*"])


def test_values_must_be_exactly_those_of_an_update() -> None:
    adapter = build_adapter(Residual(), net(), ["3"])
    good = adapter.base_values()
    adapter.check_values(good)
    for bad, message in [
        ({"3.weight": good["3.weight"]}, "lacks 3.bias"),
        (good | {"4.bias": good["3.bias"]}, "does not know: 4.bias"),
        (good | {"3.bias": torch.zeros(1)}, r"3.bias must have shape \(2,\), not \(1,\)"),
        (good | {"3.bias": torch.tensor([0.0, float("nan")])}, "3.bias holds NaN"),
    ]:
        with pytest.raises(ValuesError, match=message):
            adapter.check_values(bad)
    with pytest.raises(ValuesError, match=r"shape \(3, 2, 8\)"):
        adapter.check_values({name: v.expand(2, *v.shape) for name, v in good.items()}, devices=3)


def test_adapters_that_generate_the_same_tensor_cannot_be_combined() -> None:
    with pytest.raises(TargetError, match=r"both generate.*0\.bias"):
        build_adapter((Residual(), Full()), net(), ["*"])
    both = build_adapter((Basis(3), Residual()), net(), ["3"])
    assert both.kinds["3.weight"] == ("basis", "residual")
    base, values = both.base_values(), both.probe_values(0)
    torch.testing.assert_close(
        both.changed(values)["3.bias"] - both.targets["3.bias"],
        both.changed(values | {"codes": base["codes"]})["3.bias"]
        + both.changed(base | {"codes": values["codes"]})["3.bias"]
        - 2 * both.targets["3.bias"],
    )


def test_configurations_are_written_and_read() -> None:
    for config in CONFIGS:
        assert load_config(dump_config(config)) == config  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no adapter is called 'codes'"):
        load_config([{"name": "codes"}])
    with pytest.raises(InputError, match="no such option: count"):
        load_config([{"name": "basis", "count": 3}])
    for wrong in ("basis", [], Basis):
        with pytest.raises(InputError, match="adapter must be"):
            build_adapter(wrong, net(), ["*"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rank must be at least 1"):
        build_adapter(LowRank(0), net(), ["*"])
    assert Basis(3).build(net(), ["3"]).name == "basis"


def test_statistics_need_a_layer_that_has_them() -> None:
    with pytest.raises(TargetError, match="found no layer with running statistics"):
        build_adapter(NormStatistics(), net(), ["3"])
    bare = nn.Sequential(nn.BatchNorm1d(3, affine=False))
    assert build_adapter(NormStatistics(), bare, ["0"]).shapes == {"0.shift": (3,), "0.scale": (3,)}
    with pytest.raises(TargetError, match="no parameters for the adapter 'basis'"):
        build_adapter((Basis(), NormStatistics()), bare, ["0"])


def test_an_adapter_whose_generator_would_be_huge_names_the_way_out() -> None:
    with torch.device("meta"):
        large = nn.Linear(4096, 1024)
    with pytest.warns(HugeAdapterWarning, match=r"4,195,328 numbers.*67 million.*Basis\(rank=64\)"):
        Full().build(large, ["*"])
    Basis(64).build(large, ["*"])  # as errors, warnings would raise
