"""Names of nested arguments and outputs: a tree is a name, a list of trees, or a dict of trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Tree = Any
"""str | list[Tree] | dict[str, Tree] | None; None stands for a value that is no tensor and is left out."""


def names(tree: Tree) -> Iterator[str]:
    """Yield the names of a tree in order."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from names(part)
    elif tree is not None:
        for part in tree:
            yield from names(part)


def is_tree(value: object, depth: int = 0) -> bool:
    """Check whether a JSON value is a tree of names."""
    if depth > 32:
        return False
    if value is None or isinstance(value, str):
        return True
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_tree(part, depth + 1) for key, part in value.items())
    return isinstance(value, list) and all(is_tree(part, depth + 1) for part in value)


def fill(tree: Tree, values: Mapping[str, Any]) -> Any:
    """Return the tree with its names replaced by values."""
    if isinstance(tree, str):
        return values[tree]
    if isinstance(tree, Mapping):
        return {key: fill(part, values) for key, part in tree.items()}
    return None if tree is None else [fill(part, values) for part in tree]


def pick(tree: Tree, value: Any, where: str = "") -> dict[str, Any]:
    """Return the parts of a nested value by the names at the same places of the tree.

    Raises:
        ValueError: The value has other keys or another number of parts; the message says where.
    """
    at = f" of {where}" if where else ""
    if isinstance(tree, str):
        return {tree: value}
    found: dict[str, Any] = {}
    if isinstance(tree, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"a dict with {_listed(tree)} is needed{at}, not a {type(value).__name__}")
        if missing := [key for key in tree if key not in value]:
            raise ValueError(f"{missing[0]!r} is missing{at}; needed are {_listed(tree)}")
        if unknown := [key for key in value if key not in tree]:
            raise ValueError(f"{unknown[0]!r} is not known{at}; needed are {_listed(tree)}")
        for key, part in tree.items():
            found |= pick(part, value[key], f"{where}.{key}" if where else key)
    elif tree is not None:
        if not isinstance(value, tuple | list):
            raise ValueError(f"a tuple of {len(tree)} arrays is needed{at}, not a {type(value).__name__}")
        if len(value) != len(tree):
            raise ValueError(f"{len(tree)} arrays are needed{at}, not {len(value)}")
        for place, (part, each) in enumerate(zip(tree, value, strict=True)):
            found |= pick(part, each, f"{where}.{place}" if where else str(place))
    return found


def _listed(tree: Mapping[str, Tree]) -> str:
    return ", ".join(repr(key) for key in tree)
