"""Inputs and outputs of any nesting: tuples, lists, dictionaries, named tuples, dataclasses, ModelOutputs."""

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
    """Positional and keyword arguments that stand for `inputs`."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def flatten(tree: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of a tree, and what puts leaves in their places."""
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
    """All tensors of a tree."""
    return [leaf for leaf in flatten(tree)[0] if isinstance(leaf, Tensor)]


def floats_of(tree: Any) -> list[Tensor]:
    """All tensors of real or complex numbers of a tree."""
    return [leaf for leaf in tensors_of(tree) if leaf.is_floating_point() or leaf.is_complex()]


def signature(tree: Any) -> Any:
    """What two trees must have in common to be stacked: structure, shapes, dtypes, and what is no tensor."""
    leaves, _ = flatten(tree)
    told = [(tuple(x.shape), x.dtype) if isinstance(x, Tensor) else _told(x) for x in leaves]
    return str(pytree.tree_structure(tree)), tuple(told)


def is_plain(leaf: Any) -> bool:
    """Whether a leaf is a tensor, or a value that can hold none."""
    return isinstance(leaf, (Tensor, *_PLAIN))


def _told(leaf: Any) -> Any:
    return leaf if isinstance(leaf, _PLAIN) else id(leaf)


def _opened(leaf: Any) -> tuple[list[Any], Rebuild]:
    """The inside of a dataclass that torch does not know; any other leaf is itself."""
    if not dataclasses.is_dataclass(leaf) or isinstance(leaf, type):
        return [leaf], lambda new: new[0]
    names = [field.name for field in dataclasses.fields(leaf) if field.init]
    inner, rebuild = flatten([getattr(leaf, name) for name in names])

    def close(new: Sequence[Any]) -> Any:
        return dataclasses.replace(leaf, **dict(zip(names, rebuild(new), strict=True)))

    return inner, close
