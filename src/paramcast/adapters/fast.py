"""Run many devices in one batch through side branches of layers whose class and forward are known.

Rows are device-major: the length of a layer's first axis is a multiple of the number of devices, and the rows
of a device are adjacent. Use this module only after a comparison with the definition
(`AdaptedModule.check`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from paramcast.adapters.base import Adapter, Values
from paramcast.adapters.errors import ValuesError
from paramcast.protocol import changes

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
"""Class of a layer -> function of the layer."""
_KNOWN = (nn.Linear, nn.LayerNorm, *CONVOLUTIONS)
_FACTORED = ("basis", "lowrank", "centre")
"""Kinds whose edits are added to a layer's output. Under all other kinds, whole weights run the layer."""


@dataclass(frozen=True)
class Layer:
    """A layer of the replica and the targets in it.

    Attributes:
        name: Dotted name of the layer.
        module: The layer; its class is exactly one of the known classes.
        weight, bias: Names of the targets; None for a weight or bias that no update changes.
    """

    name: str
    module: Any
    weight: str | None
    bias: str | None


def layers_of(replica: nn.Module, adapter: Adapter) -> list[Layer] | None:
    """Return the layers that hold all targets of an adapter.

    None where a target is not in a layer of a known class, or where another layer reads the target too.
    """
    modules = dict(replica.named_modules())
    owners = [
        id(tensor) for _, tensor in replica.named_parameters(remove_duplicate=False) if tensor is not None
    ]
    found: dict[str, dict[str, str]] = {}
    for target in adapter.kinds:
        name, _, attribute = target.rpartition(".")
        module = modules.get(name)
        known = type(module) in _KNOWN and "forward" not in vars(module) and attribute in ("weight", "bias")
        if not known:
            return None
        if owners.count(id(getattr(module, attribute))) > _names_of(replica, module):
            return None  # tied: another layer reads the target too
        found.setdefault(name, {})[attribute] = target
    return [
        Layer(name, modules[name], parts.get("weight"), parts.get("bias")) for name, parts in found.items()
    ]


def _names_of(replica: nn.Module, module: nn.Module | None) -> int:
    return sum(each is module for _, each in replica.named_modules(remove_duplicate=False))


def edited(layer: Layer, adapter: Adapter, x: Tensor, y: Tensor, values: Values) -> Tensor:
    """Compute the output of a layer under an update.

    Args:
        layer: The layer.
        adapter: The adapter of the update.
        x: Input of the layer, device-major (B * n, ...).
        y: Output of the layer without the update.
        values: Update tensor -> (B, *shape), or (*shape) for all rows; names as in `changes`.

    Raises:
        ValuesError: The first axis of the input is not a multiple of the number of devices.
    """
    constants, module, kinds = adapter.tensors(), layer.module, adapter.kinds
    devices = devices_of(adapter, values)
    if devices is not None and (not x.dim() or x.shape[0] % devices):
        raise ValuesError(
            f"layer {layer.name!r} has {tuple(x.shape)} as its input: its first axis is not a "
            f"multiple of the {devices} devices, so their rows cannot be separated"
        )
    on_weight = kinds[layer.weight] if layer.weight else ()
    on_bias = kinds[layer.bias] if layer.bias else ()
    if any(kind not in _FACTORED for kind in (*on_weight, *on_bias)) or len(on_weight) > 1:
        weight = _whole(layer.weight, module.weight, kinds, values, constants, devices)
        bias = _whole(layer.bias, module.bias, kinds, values, constants, devices)
        return dense(module, x, weight, bias, y, weighted=layer.weight is not None)
    if on_weight:
        y = _weight_edit(layer.weight or "", module, x, y, values, constants, kinds, devices)
    for kind in on_bias:
        y = add_vector(y, _vector(kind, layer.bias or "", module.bias, values, constants), module)
    return y


def devices_of(adapter: Adapter, values: Values) -> int | None:
    """Return the length of the device axis of values; None where they have no such axis."""
    name, shape = next(iter(adapter.shapes.items()))
    value = values[name] if name in values else next(iter(values.values()))
    return int(value.shape[0]) if value.dim() > len(shape) else None


def _weight_edit(
    target: str,
    module: Any,
    x: Tensor,
    y: Tensor,
    values: Values,
    constants: Mapping[str, Tensor],
    kinds: Mapping[str, tuple[str, ...]],
    devices: int | None,
) -> Tensor:
    """Add the effect of a `basis` or `lowrank` edit of the weight to the output."""
    (kind,) = kinds[target]
    name = changes.tensor_name(target)
    if isinstance(module, nn.LayerNorm):
        normed = F.layer_norm(x, module.normalized_shape, eps=module.eps)
        edit = _vector(kind, target, module.weight, values, constants)
        return y + scale_vector(normed, edit, module.weight.dim())
    if isinstance(module, nn.Linear):
        if kind == "basis":
            u, v = constants[f"{name}.u"], constants[f"{name}.v"]
            return add_matmul(y, scale_vector(x @ v.T, values["codes"]), u.T)
        return add_matmul(y, matmul(x, values[f"{name}.b"]), values[f"{name}.a"])
    if module.groups != 1:  # factors would mix the groups
        edit = _vector(kind, target, module.weight, values, constants)
        return y + convolve(module, x, edit)
    kernel = module.weight.shape[1:]
    if kind == "basis":
        u, v = constants[f"{name}.u"], constants[f"{name}.v"]
        inner = convolve(module, x, v.reshape(-1, *kernel)).movedim(1, -1)
        return y + (scale_vector(inner, values["codes"]) @ u).movedim(-1, 1)
    a, b = values[f"{name}.a"], values[f"{name}.b"]
    inner = convolve(module, x, b.reshape(*b.shape[:-1], *kernel))
    return y + matmul(inner.movedim(1, -1), a).movedim(-1, 1)


def _vector(kind: str, target: str, base: Tensor, values: Values, constants: Mapping[str, Tensor]) -> Tensor:
    """Compute the tensor that an update adds to a whole target: (B, *base), or (*base)."""
    name, shape = changes.tensor_name(target), base.shape
    if kind in ("basis", "centre"):
        codes = values["codes" if kind == "basis" else "centre"]
        if f"{name}.u" in constants:
            edit = (constants[f"{name}.u"].T * codes[..., None, :]) @ constants[f"{name}.v"]
        else:
            # tensordot would become an Einsum between two Reshapes in a device's graph.
            mixing = constants[f"{name}.{'basis' if kind == 'basis' else 'centre'}"]
            edit = codes @ mixing.flatten(1)
            if mixing.dim() == 2 and len(shape) == 1:
                return edit
        return edit.reshape(*codes.shape[:-1], *shape)
    if f"{name}.a" in values:
        edit = values[f"{name}.a"] @ values[f"{name}.b"]
        return edit.reshape(*edit.shape[:-2], *shape)
    return values[name]


def _whole(
    target: str | None,
    base: Tensor | None,
    kinds: Mapping[str, tuple[str, ...]],
    values: Values,
    constants: Mapping[str, Tensor],
    devices: int | None,
) -> Tensor | None:
    """Compute a changed target (B, *shape), or (*shape) where all rows share it."""
    if target is None or base is None:
        return base
    value = base.detach()
    for kind in kinds[target]:
        if kind in _FACTORED:
            value = value + _vector(kind, target, base, values, constants)
        elif devices is None:
            value = changes.changed(kind, target, value, values, constants)
        else:
            value = vmap(
                partial(_changed, kind, target, constants), (0 if value.dim() > base.dim() else None, 0)
            )(value, dict(values))
    return value


def _changed(kind: str, target: str, constants: Mapping[str, Tensor], base: Tensor, values: Values) -> Tensor:
    value: Tensor = changes.changed(kind, target, base, values, constants)
    return value


def matmul(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply x (B * n, ..., I) by the transpose of matrix (B, O, I), the rows of each device by its matrix.

    This is one batched product (`bmm`), which was measured to be 2-6 times as fast as vmap or a loop over
    devices. A matrix (O, I) is for all rows.
    """
    if matrix.dim() == 2:
        return F.linear(x, matrix)
    rows = x.reshape(matrix.shape[0], -1, x.shape[-1])
    return torch.bmm(rows, matrix.transpose(1, 2)).reshape(*x.shape[:-1], matrix.shape[1])


def add_matmul(y: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Compute `y + matmul(x, matrix)`.

    Where y is (N, O) and the matrix is for all rows, this is one operation of a device's graph and not two.
    """
    if matrix.dim() == 2 and y.dim() == 2:
        return torch.addmm(y, x, matrix.T)
    return y + matmul(x, matrix)


def add_vector(y: Tensor, vector: Tensor, module: nn.Module) -> Tensor:
    """Add the devices' vectors (B, *bias), or one vector (*bias), to a layer's output y (B * n, ...)."""
    if isinstance(module, nn.LayerNorm):
        return _aligned(torch.add, y, vector, len(module.normalized_shape), behind=0)
    behind = module.weight.dim() - 2 if type(module) in CONVOLUTIONS else 0  # type: ignore[operator]
    return _aligned(torch.add, y, vector, 1, behind)


def scale_vector(y: Tensor, vector: Tensor, dims: int = 1) -> Tensor:
    """Multiply the last `dims` axes of y (B * n, ..., *v) by the devices' vectors (B, *v), or by one (*v)."""
    return _aligned(torch.mul, y, vector, dims, behind=0)


def _aligned(
    operation: Callable[[Tensor, Tensor], Tensor], y: Tensor, vector: Tensor, dims: int, behind: int
) -> Tensor:
    """Apply an operation to y and a vector of `dims` axes; y has `behind` more axes after those."""
    own = vector.shape[vector.dim() - dims :]
    if vector.dim() == dims:
        return operation(y, vector.reshape(*own, *[1] * behind) if behind else vector)
    grouped = by_device(y, vector.shape[0])
    between = grouped.dim() - 1 - dims - behind
    shaped = vector.reshape(vector.shape[0], *[1] * between, *own, *[1] * behind)
    return operation(grouped, shaped).reshape(y.shape)


def by_device(x: Tensor, devices: int) -> Tensor:
    """Reshape (B * n, ...) to (B, n, ...)."""
    return x.reshape(devices, x.shape[0] // devices, *x.shape[1:])


def dense(
    module: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, y: Tensor, *, weighted: bool
) -> Tensor:
    """Run a layer with whole weights and biases.

    Args:
        module: The layer.
        x: Input of the layer, device-major (B * n, ...).
        weight: (B, *weight), or (*weight) for all rows.
        bias: (B, *bias), or (*bias) for all rows; None for no bias.
        y: Output of the layer without the update.
        weighted: Whether the weight is changed. Where it is not, the difference of the biases is added to y.
    """
    if not weighted:
        assert bias is not None
        return add_vector(y, bias - module.bias, module)
    assert weight is not None
    if isinstance(module, nn.Linear):
        if weight.dim() == 2:
            return F.linear(x, weight, bias)
        y = matmul(x, weight)
    elif isinstance(module, nn.LayerNorm):
        y = scale_vector(
            F.layer_norm(x, module.normalized_shape, eps=module.eps), weight, module.weight.dim()
        )
    else:
        y = convolve(module, x, weight)
    return y if bias is None else add_vector(y, bias, module)


def convolve(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    """Convolve x (B * n, C, *axes) with a kernel for each device, without a bias.

    The devices become groups of one grouped convolution. The weight is (B, O, C / groups, *kernel), or has no
    axis of devices and is for all rows.
    """
    function = CONVOLUTIONS[type(layer)]
    weight = weight if weight.dim() > x.dim() else weight[None]
    devices = weight.shape[0]
    padded = layer.padding_mode != "zeros"
    if padded:
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    grouped = by_device(x, devices).transpose(0, 1)  # (n, B, C, *axes)
    y = function(
        grouped.reshape(grouped.shape[0], -1, *x.shape[2:]),
        weight.reshape(-1, *weight.shape[2:]),
        None,
        layer.stride,
        0 if padded else layer.padding,
        layer.dilation,
        layer.groups * devices,
    )
    y = y.reshape(y.shape[0], devices, -1, *y.shape[2:]).transpose(0, 1)
    return y.reshape(-1, *y.shape[2:])
