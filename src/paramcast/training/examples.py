"""Nested examples: tensors with the examples on the first axis, in tuples, lists and dictionaries."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from paramcast.errors import InputError


def as_tensors(tree: Any, what: str) -> Any:
    """Convert arrays to tensors, and check that all have the same number of examples.

    Args:
        tree: A tensor or array (N, ...), or tuples, lists and dictionaries of them.
        what: The name of the tree, for error messages.

    Returns:
        The tree with tensors instead of arrays. Arrays of float64 become float32, as torch modules expect.

    Raises:
        InputError: There is no leaf, a leaf is no array of numbers, or the numbers of examples differ.
    """
    leaves, spec = pytree.tree_flatten(tree, is_leaf=_is_numbers)
    if not leaves:
        raise InputError(f"{what} hold no array")
    tensors = [_tensor(leaf, what) for leaf in leaves]
    counts = {len(tensor) if tensor.dim() else None for tensor in tensors}
    if len(counts) > 1 or None in counts:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise InputError(f"{what} must all have the examples on their first axis; their shapes are {shapes}")
    return pytree.tree_unflatten(tensors, spec)


def _tensor(leaf: Any, what: str) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf.detach()
    try:
        array = np.asarray(leaf)
    except ValueError as error:
        raise InputError(
            f"{what} hold a list of unequal lengths; pad it and pass a mask beside it"
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{what} hold a {type(leaf).__name__} of type {array.dtype}; arrays of numbers are needed"
        )
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():  # nothing here writes to it
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _is_numbers(node: Any) -> bool:
    """Check whether a node is a list of numbers, also nested: it is one array, not several inputs."""
    return isinstance(node, list) and all(isinstance(each, int | float) or _is_numbers(each) for each in node)


def count(tree: Any) -> int:
    """Return the number of examples of a tree."""
    return len(pytree.tree_leaves(tree)[0])


def take(tree: Any, rows: slice | np.ndarray | Sequence[int]) -> Any:
    """Select examples of every tensor of a tree; leaves without axes, or other than tensors, stay unchanged.

    Args:
        tree: Tensors (N, ...).
        rows: A slice, or the numbers of the examples.
    """
    index = rows if isinstance(rows, slice) else torch.as_tensor(np.asarray(rows), dtype=torch.long)

    def taken(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        return leaf[index if isinstance(index, slice) else index.to(leaf.device)]

    return pytree.tree_map(taken, tree)


def joined(trees: Sequence[Any]) -> Any:
    """Concatenate the examples of trees of one structure; leaves without axes come from the first tree."""
    leaves = [pytree.tree_flatten(tree) for tree in trees]
    merged = [
        torch.cat(parts) if isinstance(parts[0], Tensor) and parts[0].dim() else parts[0]
        for parts in zip(*(each[0] for each in leaves), strict=True)
    ]
    return pytree.tree_unflatten(merged, leaves[0][1])


def moved(tree: Any, device: torch.device | str) -> Any:
    """Move every tensor of a tree to a torch device."""
    return pytree.tree_map(lambda tensor: tensor.to(device) if isinstance(tensor, Tensor) else tensor, tree)


def detached(tree: Any) -> Any:
    """Detach every tensor of a tree from its gradients."""
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def call(module: Any, inputs: Any) -> Any:
    """Call a module: a tuple or list is positional, a dictionary is keywords, a tensor is one argument."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    if isinstance(inputs, tuple | list):
        return module(*inputs)
    return module(inputs)


def made_like(tree: Any, seed: int = 0) -> Any:
    """Make artificial examples of the same layout, without a user's data, which an artifact may contain.

    Floats are drawn with each tensor's mean and deviation; integers are drawn from the tensor's values.
    Padding masks, which reveal only lengths, keep their rows in another order.
    """
    draws = torch.Generator().manual_seed(seed)

    def made(tensor: Tensor) -> Tensor:
        flat = tensor.detach().cpu().flatten()
        if tensor.is_floating_point():
            noise = torch.randn(flat.shape, generator=draws)
            deviation = flat.float().std(correction=0) if flat.numel() else 0.0
            return (flat.float().mean() + deviation * noise).to(tensor.dtype).reshape(tensor.shape)
        if _is_padding(tensor):
            return tensor.detach().cpu()[torch.randperm(len(tensor), generator=draws)]
        return flat[torch.randint(len(flat), flat.shape, generator=draws)].reshape(tensor.shape)

    return pytree.tree_map(made, tree)


def _is_padding(tensor: Tensor) -> bool:
    """Check whether a tensor of zeros and ones marks the beginning or the end of each of its rows."""
    if tensor.dim() != 2 or tensor.shape[1] < 4 or bool(((tensor != 0) & (tensor != 1)).any()):
        return False
    steps = tensor[:, 1:].int() - tensor[:, :-1].int()
    return bool(((steps <= 0).all(1) | (steps >= 0).all(1)).all())


class ExampleWarning(UserWarning):
    """A real example is used in place of an artificial one."""


def shipped(module: Any, tree: Any) -> Any:
    """Return examples for an artifact: artificial ones if the module runs on them, else the real ones.

    Args:
        module: Called on the result.
        tree: Real examples.
    """
    made, module = made_like(tree), module.eval()
    at = next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
    try:
        with torch.no_grad():
            outputs = pytree.tree_leaves(call(module, moved(made, at)))
        if not any(isinstance(x, Tensor) and x.is_floating_point() and x.isnan().any() for x in outputs):
            return made
        why = "gives NaN"
    except Exception as error:  # a module may raise any error on unusual inputs
        why = f"fails ({type(error).__name__}: {error})"
    warnings.warn(
        f"the module {why} on made-up inputs, so the first training examples are kept in their "
        "place; give export(..., probe=inputs) an example without private data",
        ExampleWarning,
        stacklevel=3,
    )
    return tree


def dump(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a tree into its structure, as JSON types, and its tensors by number."""
    tensors: dict[str, Tensor] = {}

    def structure(node: Any) -> Any:
        if isinstance(node, Tensor):
            tensors[str(len(tensors))] = node.detach().cpu().contiguous().clone()
            return str(len(tensors) - 1)
        if isinstance(node, Mapping):
            return {"keys": {name: structure(child) for name, child in node.items()}}
        return {type(node).__name__: [structure(child) for child in node]}

    return structure(tree), tensors


def restore(structure: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Restore a tree from the results of `dump`."""
    if isinstance(structure, str):
        return tensors[structure]
    if "keys" in structure:
        return {name: restore(child, tensors) for name, child in structure["keys"].items()}
    children = [restore(child, tensors) for child in next(iter(structure.values()))]
    return tuple(children) if "tuple" in structure else children
