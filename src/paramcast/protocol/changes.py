"""What an update means: how its tensors change one target of a module.

This is the executable definition. It needs no torch, and works on NumPy arrays and on torch tensors alike:
the trainer calls it with tensors (and differentiates through it), a device calls it with arrays, and the
browser's device has the same few lines in TypeScript.

A target is a parameter, or a running statistic of a normalization layer, called by its dotted name in the
module. Update tensors and constants that belong to a target are called by `tensor_name` of it:

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

A target of two or more axes is a matrix: its rows are the first axis, its columns all the others.
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
"""Characters kept free behind a target's name, for `.shift`, `.basis` and a quantization's scales."""


def changed(
    kind: str, target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]
) -> Array:
    """Change one target by one kind of adapter.

    Args:
        kind: One of `KINDS`.
        target: Dotted name of the target in the module.
        base: The target as it is, of any shape; float32, or float64.
        values: Tensors of the update.
        constants: What lies on the device.

    Returns:
        The target under the update, in the shape of `base`.

    Raises:
        KeyError: An unknown kind, or a missing tensor.
    """
    return KINDS[kind](target, base, values, constants)


def tensor_name(target: str) -> str:
    """Write a target's name as an update's tensors may be called; nearly always it is the name itself.

    Characters that an update does not allow are written as `_x20_` (their code in hexadecimal digits).
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
    """Add a coded sum of the learned basis."""
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
    """Add the update's own tensor."""
    return base + values[tensor_name(target)].reshape(base.shape)


def full(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Put the update's own tensor in the base's place."""
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
    """Name the tensor `shift` or `scale` of a normalization layer; '' is a root layer."""
    return tensor_name(f"{layer}.{what}" if layer else what)


def centre(target: str, base: Array, values: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """Add a coded sum of a basis that is given and not learned."""
    edit = values["centre"] @ constants[f"{tensor_name(target)}.centre"]
    return base + edit.reshape(base.shape)


def _exp(value: Array) -> Array:
    return np.exp(value) if isinstance(value, np.ndarray | np.generic) else value.exp()


KINDS: dict[str, Callable[[str, Array, Mapping[str, Array], Mapping[str, Array]], Array]] = {
    each.__name__: each for each in (basis, lowrank, residual, full, statistics, centre)
}
"""Every kind of change -> its definition."""
