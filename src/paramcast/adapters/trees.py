"""Nested inputs and outputs: tuples, lists, dictionaries, named tuples, dataclasses, ModelOutputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

Inputs = Any
"""One tensor, a tuple or list (positional arguments) or a mapping (keyword arguments)."""
Rebuild = Callable[[Sequence[Any]], Any]
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Convert `inputs` to positional and keyword arguments."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def flatten(tree: Any) -> tuple[list[Any], Rebuild]:
    """Return the leaves of a tree, and a function that builds a tree of this structure from leaves."""
    leaves, spec = pytree.tree_flatten(tree)
    parts = [_opened(leaf) for leaf in leaves]
    flat = [leaf for found, _ in parts for leaf in found]

    def rebuild(new: Sequence[Any]) -> Any:
        rest, at = [], 0
        for found, close in parts:
            rest.append(close(new[at : at + len(found)]))
            at += len(found)
        return pytree.tree_unflatten(rest, spec)

    return flat, rebuild


def tensors_of(tree: Any) -> list[Tensor]:
    """Return all tensors of a tree."""
    return [leaf for leaf in flatten(tree)[0] if isinstance(leaf, Tensor)]


def floats_of(tree: Any) -> list[Tensor]:
    """Return all tensors of a tree that hold floating point or complex numbers."""
    return [leaf for leaf in tensors_of(tree) if leaf.is_floating_point() or leaf.is_complex()]


def signature(tree: Any) -> Any:
    """Return the properties that must be equal for two trees to be stacked.

    These are the structure, the shapes and dtypes of tensors, and the leaves that are not tensors.
    """
    leaves, _ = flatten(tree)
    told = [(tuple(x.shape), x.dtype) if isinstance(x, Tensor) else _told(x) for x in leaves]
    return str(pytree.tree_structure(tree)), tuple(told)


def is_plain(leaf: Any) -> bool:
    """Check whether a leaf is a tensor, or a value of a type that can hold no tensor."""
    return isinstance(leaf, (Tensor, *_PLAIN))


def _told(leaf: Any) -> Any:
    return leaf if isinstance(leaf, _PLAIN) else id(leaf)


def _opened(leaf: Any) -> tuple[list[Any], Rebuild]:
    """Return the leaves inside a dataclass that torch does not know, and a function that rebuilds it.

    Any other leaf is returned as the only leaf.
    """
    if not dataclasses.is_dataclass(leaf) or isinstance(leaf, type):
        return [leaf], lambda new: new[0]
    names = [field.name for field in dataclasses.fields(leaf) if field.init]
    inner, rebuild = flatten([getattr(leaf, name) for name in names])

    def close(new: Sequence[Any]) -> Any:
        return dataclasses.replace(leaf, **dict(zip(names, rebuild(new), strict=True)))

    return inner, close
