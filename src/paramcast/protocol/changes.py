"""Definition of an update: how its tensors change one target of a module.

This is the executable definition. It needs no torch and works on both NumPy arrays and torch tensors. The
trainer calls it with tensors and differentiates through it. A device calls it with arrays. The browser's
device implements the same definition in TypeScript.

A target is a parameter, or a running statistic of a normalization layer. It is identified by its dotted name
in the module. The names of a target's update tensors and constants begin with `tensor_name` of the target
(NAME):

| kind | update tensors | constants | result |
|---|---|---|---|
| `basis`, matrix | `codes` (r,) | NAME.u (r, O), NAME.v (r, I) | base + u^T diag(codes) v |
| `basis`, vector | `codes` (r,) | NAME.basis (r, n) | base + codes @ NAME.basis |
| `lowrank`, matrix | NAME.a (O, r), NAME.b (r, I) | | base + a b |
| `lowrank`, vector | NAME | | base + NAME |
| `residual` | NAME | | base + NAME |
| `full` | NAME | | NAME |
| `statistics`, mean | LAYER.shift (C,) | NAME.deviation (C,) | base + shift * NAME.deviation |
| `statistics`, variance | LAYER.scale (C,) | | base * exp(scale) |
| `centre` | `centre` (k,) | NAME.centre (k, n) | base + centre @ NAME.centre |

A target of two or more axes is a matrix: its rows are the first axis, its columns are all other axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paramcast.protocol import limits

Array = Any
"""A NumPy array or a torch tensor."""

MEAN, VARIANCE = "running_mean", "running_var"
"""Last parts of the names of the two targets of `statistics`."""

_SUFFIX = 16
"""Characters reserved after a target's name, for `.shift`, `.basis` and the suffix of quantization scales."""


def changed(
    kind: str, target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]
) -> Array:
    """Change one target by one kind of adapter.

    Args:
        kind: One of `KINDS`.
        target: Dotted name of the target in the module.
        base: The unchanged target, of any shape; float32, or float64.
        values: Tensors of the update.
        constants: Constants that are stored on the device.

    Returns:
        The target under the update, in the shape of `base`.

    Raises:
        KeyError: An unknown kind, or a missing tensor.
    """
    return KINDS[kind](target, base, values, constants)


def tensor_name(target: str) -> str:
    """Convert a target's name to a name that an update allows for tensors; most names stay unchanged.

    Characters that an update does not allow are written as `_x20_` (their code in hexadecimal digits). The
    dots of a name with too many parts become underscores. Only the end of a too long name is kept.
    """
    name = ".".join(_UNUSUAL.sub(_escaped, part) for part in target.split("."))
    parts = name.split(".")
    if len(parts) > limits.MAX_TENSOR_PARTS - 2:
        name = "_".join(parts)
    return name[-(limits.MAX_TENSOR_NAME - _SUFFIX) :].lstrip(".")


_UNUSUAL = re.compile(r"[^A-Za-z0-9_]")


def _escaped(match: re.Match[str]) -> str:
    return f"_x{ord(match[0]):x}_"


def basis(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Add a weighted sum of the learned basis; the weights are the codes."""
    codes, name = values["codes"], tensor_name(target)
    if f"{name}.u" in constants:
        u, v = constants[f"{name}.u"], constants[f"{name}.v"]
        edit = u.T @ (codes[:, None] * v)
    else:
        edit = codes @ constants[f"{name}.basis"]
    return base + edit.reshape(base.shape)


def lowrank(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Add a matrix of low rank, or a vector."""
    name = tensor_name(target)
    edit = values[f"{name}.a"] @ values[f"{name}.b"] if f"{name}.a" in values else values[name]
    return base + edit.reshape(base.shape)


def residual(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Add the tensor of the update."""
    return base + values[tensor_name(target)].reshape(base.shape)


def full(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Replace the base by the tensor of the update."""
    return values[tensor_name(target)].reshape(base.shape)


def statistics(
    target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]
) -> Array:
    """Move a running mean by `shift` of its deviations, or multiply a running variance by exp(`scale`)."""
    layer, _, which = target.rpartition(".")
    if which == MEAN:
        deviation = constants[f"{tensor_name(target)}.deviation"]
        return base + values[statistic_name(layer, "shift")] * deviation
    return base * _exp(values[statistic_name(layer, "scale")])


def statistic_name(layer: str, what: str) -> str:
    """Return the name of the tensor `shift` or `scale` of a normalization layer; '' is a root layer."""
    return tensor_name(f"{layer}.{what}" if layer else what)


def centre(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Add a weighted sum of a basis that is given and not learned; the weights are the codes."""
    edit = values["centre"] @ constants[f"{tensor_name(target)}.centre"]
    return base + edit.reshape(base.shape)


def _exp(value: Array) -> Array:
    return np.exp(value) if isinstance(value, np.ndarray | np.generic) else value.exp()


KINDS: dict[str, Callable[[str, Array, Mapping[str, Array], Mapping[str, Array]], Array]] = {
    each.__name__: each for each in (basis, lowrank, residual, full, statistics, centre)
}
"""Every kind of change -> its definition."""
