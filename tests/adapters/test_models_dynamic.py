"""Dynamic layers: every form on every kind of layer, against the mathematics written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from paramcast.adapters import Dynamic, make_dynamic
from paramcast.adapters.edits import FORMS
from paramcast.adapters.edits.codes import CodesEdit
from paramcast.errors import InputError

DEVICES, ROWS = 3, 2  # rows of each device

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
MATRIX = [
    pytest.param(form, case, id=f"{form}-{case}")
    for form in FORMS
    for case in CASES
    if not ("grouped" in case and form in ("lowrank", "codes"))
]


def built(form: str, case: str) -> tuple[Dynamic, Tensor]:
    """A module of one layer of random parameters, dynamic, and an input for all devices."""
    torch.manual_seed(len(case))
    layer, shape = CASES[case][0](), CASES[case][1]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    module = nn.Sequential(layer)
    return make_dynamic(module, ["0"], form), torch.randn(DEVICES * ROWS, *shape)


def values_for(dynamic: Dynamic, devices: int = DEVICES) -> dict[str, Tensor]:
    return {name: torch.randn(devices, *shape) for name, shape in dynamic.shapes.items()}


def edited_parameters(dynamic: Dynamic, values: dict[str, Tensor], device: int) -> dict[str, Tensor]:
    """The layer's parameters under the values of one device, by the definition of the form."""
    own = {name: value[device] for name, value in values.items()}
    weight, bias = dynamic.module[0].weight, dynamic.module[0].bias  # type: ignore[index]
    form = dynamic.edit.form
    if form == "full":
        return {"0." + name.split(".")[-1]: value for name, value in own.items()}
    if form == "residual":
        edit, shift = own["0.weight"], own.get("0.bias")
    elif form == "lowrank":
        edit = own["0.scale"] if "0.scale" in own else own["0.a"] @ own["0.b"]
        shift = own.get("0.bias")
    else:
        assert isinstance(dynamic.edit, CodesEdit)
        basis, codes = dynamic.edit.basis, own["codes"]
        if "0:scale" in basis:
            edit = torch.einsum("k,k...->...", codes, basis["0:scale"])
        else:
            edit = torch.einsum("k,ko,ki->oi", codes, basis["0:u"], basis["0:v"])
        shift = codes @ basis["0:bias"].flatten(1) if bias is not None else None
    parameters = {"0.weight": weight + edit.reshape(weight.shape)}
    if bias is not None:
        assert shift is not None
        parameters["0.bias"] = bias + shift.reshape(bias.shape)
    return parameters


@pytest.mark.parametrize(("form", "case"), MATRIX)
def test_base_values_leave_the_module_as_it_is(form: str, case: str) -> None:
    dynamic, x = built(form, case)
    base = {name: value.expand(DEVICES, *value.shape) for name, value in dynamic.base_values().items()}
    assert {name: tuple(value.shape[1:]) for name, value in base.items()} == dynamic.shapes
    plain = dynamic.module(x)
    torch.testing.assert_close(dynamic(x, values=base), plain, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(dynamic(x), plain, atol=0, rtol=0)


@pytest.mark.parametrize(("form", "case"), MATRIX)
def test_each_device_has_its_own_layer(form: str, case: str) -> None:
    """A batch of devices equals one device at a time, and both equal the layer with edited parameters."""
    dynamic, x = built(form, case)
    values = values_for(dynamic)
    together = dynamic(x, values=values)
    for device in range(DEVICES):
        rows = slice(device * ROWS, (device + 1) * ROWS)
        alone = dynamic(x[rows], values={name: v[device : device + 1] for name, v in values.items()})
        torch.testing.assert_close(together[rows], alone, atol=1e-4, rtol=1e-5)
        for_all = dynamic(x[rows], values={name: v[device] for name, v in values.items()})
        torch.testing.assert_close(for_all, alone, atol=1e-4, rtol=1e-5)
        wanted = functional_call(dynamic.module, edited_parameters(dynamic, values, device), (x[rows],))
        torch.testing.assert_close(alone, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_module_itself_is_untouched(form: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    names, x = list(module.state_dict()), torch.randn(4, 6)
    before = module(x)
    dynamic = make_dynamic(module, ["0", "1"], form)
    assert list(module.state_dict()) == names
    with dynamic.use(values_for(dynamic, 1)):
        assert not torch.allclose(module(x), before)
    torch.testing.assert_close(module(x), before, atol=0, rtol=0)
    dynamic.remove()
    with dynamic.use(values_for(dynamic, 1)):
        torch.testing.assert_close(module(x), before, atol=0, rtol=0)
    assert not any(layer._forward_hooks for layer in module.modules())


def test_values_are_put_back_after_an_error_and_nest() -> None:
    dynamic = make_dynamic(nn.Sequential(nn.Linear(2, 2)), ["0"], "residual")
    x, one = torch.randn(1, 2), values_for(dynamic, 1)
    plain, edited = dynamic(x), dynamic(x, values=one)
    with dynamic.use(one):
        torch.testing.assert_close(dynamic(x), plain)  # an inner call says for itself what it runs under
        torch.testing.assert_close(dynamic.module(x), edited)
    with pytest.raises(RuntimeError):
        dynamic(torch.randn(1, 3), values=one)
    torch.testing.assert_close(dynamic.module(x), plain)


def test_two_adaptors_share_one_module() -> None:
    module = nn.Sequential(nn.Linear(3, 3))
    first, second = (make_dynamic(module, ["0"], form) for form in ("full", "codes"))
    x, values = torch.randn(2, 3), values_for(second, 2)
    plain = module(x)
    assert not torch.allclose(second(x, values=values), plain)
    torch.testing.assert_close(first(x), plain)


def test_patterns_choose_layers_and_what_containers_hold() -> None:
    block = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.LayerNorm(3))
    module = nn.ModuleDict({"block": block, "head": nn.Linear(3, 2), "flat": nn.LayerNorm(3, bias=False)})
    assert list(make_dynamic(module, ["block", "head"]).layers) == ["block.0", "block.2", "head"]
    assert list(make_dynamic(module, ["*.0"]).layers) == ["block.0"]
    assert list(make_dynamic(module, ["*"]).layers) == ["block.0", "block.2", "head", "flat"]


def test_what_cannot_be_dynamic_is_told_with_the_candidates() -> None:
    attention = nn.MultiheadAttention(4, 2)  # reads its out_proj's weight, and never calls it
    module = nn.ModuleDict(
        {"head": nn.Linear(3, 2), "norm": nn.LayerNorm(3, elementwise_affine=False), "attention": attention}
    )
    for pattern in ("tail", "norm", "attention"):
        with pytest.raises(InputError, match=rf"no layer matches '{pattern}'.*can be: head$"):
            make_dynamic(module, [pattern])
    with pytest.raises(InputError, match=r"no form is called 'half'; there are: full, residual"):
        make_dynamic(module, ["head"], "half")


@pytest.mark.parametrize("form", ["lowrank", "codes"])
def test_factors_of_a_grouped_convolution_are_refused(form: str) -> None:
    with pytest.raises(InputError, match=r"grouped convolution.*residual"):
        make_dynamic(nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)), ["0"], form)


def test_options_of_a_form_set_the_size_of_a_package() -> None:
    module = nn.Sequential(nn.Linear(6, 5))
    assert make_dynamic(module, ["0"], "codes", count=7).shapes == {"codes": (7,)}
    shapes = make_dynamic(module, ["0"], "lowrank", rank=2).shapes
    assert shapes == {"0.a": (5, 2), "0.b": (2, 6), "0.bias": (5,)}
    with pytest.raises(InputError):
        make_dynamic(module, ["0"], "full", rank=2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", [nn.Linear(6, 5), nn.LayerNorm(6), nn.Conv1d(3, 4, 3), nn.Conv2d(3, 4, 3)])
def test_a_pattern_may_take_the_biases_alone(form: str, layer: nn.Module) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(layer)
    dynamic = make_dynamic(module, ["0.bias"], form)
    convolves = isinstance(layer, nn.Conv1d | nn.Conv2d)
    x = torch.randn(DEVICES, *(3, 7, 6)[: layer.weight.dim() - 1] if convolves else (6,))
    base = {name: value.expand(DEVICES, *value.shape) for name, value in dynamic.base_values().items()}
    torch.testing.assert_close(dynamic(x, values=base), module(x))
    assert all(shape in ((64,), tuple(layer.bias.shape)) for shape in dynamic.shapes.values())  # type: ignore[union-attr, arg-type]
    moved = dynamic(x, values=values_for(dynamic)) - module(x)
    first = moved.movedim(1, -1) if convolves else moved
    rows = first.reshape(DEVICES, -1, first.shape[-1])
    assert rows.abs().max() > 0.01
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), atol=1e-4, rtol=1e-4)  # the same everywhere


def test_biases_alone_need_a_bias_and_yield_to_the_whole_layer() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    with pytest.raises(InputError, match="no bias"):
        make_dynamic(module, ["1.bias"])
    assert "0.weight" in make_dynamic(module, ["0.bias", "0"], "residual").shapes


@pytest.mark.parametrize("form", FORMS)
def test_a_centre_moves_its_layers_in_any_form(form: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    dynamic = make_dynamic(module, ["0", "1"], form, centred=["0"], directions=4)
    assert dynamic.shapes["centre"] == (4,)
    assert (dynamic.base_values()["centre"] == 0).all()
    offsets, x = torch.randn(4, 6), torch.randn(DEVICES, 6)
    assert dynamic.centre
    dynamic.centre.set_basis("0", -offsets @ module[0].weight.T)
    base = {name: value.expand(DEVICES, *value.shape) for name, value in dynamic.base_values().items()}
    coefficients = torch.randn(DEVICES, 4)
    taken = dynamic(x, values=base | {"centre": coefficients})
    torch.testing.assert_close(taken, module(x - coefficients @ offsets), atol=1e-5, rtol=1e-5)


def test_only_a_chosen_layer_with_a_bias_can_be_centred() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    for name in ("1", "2"):
        with pytest.raises(InputError, match=f"centred.*{name}"):
            make_dynamic(module, ["0", "1"], centred=[name])
