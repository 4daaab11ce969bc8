"""Check of the inputs of any module against the manifest; the errors name the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paramcast.artifact.manifest import TensorSpec
from paramcast.artifact.trees import Tree, names, pick
from paramcast.device.errors import DeviceInputError

Arrays = Mapping[str, np.ndarray]


def check_inputs(x: Any, specs: tuple[TensorSpec, ...], tree: Tree) -> dict[str, np.ndarray]:
    """Return the arrays of `x` by the names of the graph's inputs, in the dtypes of the graph.

    Args:
        x: An array where there is one input; a tuple in the order of the module's arguments, or a dictionary
            by their names, nested as the module takes them. Every array has the examples on its first axis.
        specs: Names, dtypes and shapes of the graph's inputs.
        tree: Names of the inputs, nested as the module takes its arguments.

    Raises:
        DeviceInputError: Names, dtypes or shapes do not fit, or the numbers of examples differ.
    """
    try:
        given = pick(*_matched(x, tree))
    except ValueError as error:
        raise DeviceInputError(f"the inputs do not fit the model: {error}") from error
    arrays = {spec.name: _checked(given[spec.name], spec) for spec in specs}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DeviceInputError(f"the inputs must have equally many examples: {told}")
    return arrays


def _matched(x: Any, tree: Tree) -> tuple[Tree, Any]:
    """Return the tree and the value in a common form.

    Arguments may be given by position or by name; a single argument may be given by itself.
    """
    listed = (
        [tree] if isinstance(tree, str) else list(tree.values()) if isinstance(tree, Mapping) else list(tree)
    )
    if isinstance(x, tuple):
        return listed, x
    if isinstance(x, Mapping):
        if isinstance(tree, Mapping):
            return tree, x
        if len(listed) == 1 and isinstance(listed[0], Mapping) and x.keys() == listed[0].keys():
            return listed, (x,)  # the only argument of the module is a dictionary
        return {_argument(part, place): part for place, part in enumerate(listed)}, x
    if len(listed) == 1 and isinstance(listed[0], str):
        return listed, (x,)
    wanted = ", ".join(names(tree))
    raise ValueError(f"a tuple or a dictionary of arrays is needed ({wanted}), not a {type(x).__name__}")


def _argument(part: Tree, place: int) -> str:
    """Return the name of an argument: its tensor's name, or the prefix of its tensors' names."""
    first = next(names(part), str(place))
    return first if isinstance(part, str) else first.split(".")[0]


def _checked(value: Any, spec: TensorSpec) -> np.ndarray:
    """Return `value` as an array of the input's dtype.

    Values of any floating point dtype are converted; others only if the conversion keeps every value.

    Raises:
        DeviceInputError: The dtype or the shape does not fit, or the array is empty.
    """
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__"):
            raise DeviceInputError(f"input {spec.name} must be an array, not a {type(value).__name__}")
        value = np.asarray(value)
    wanted = np.dtype(spec.dtype)
    floats = value.dtype.kind == "f" and wanted.kind == "f"
    if not floats and not np.can_cast(value.dtype, wanted, "safe"):
        raise DeviceInputError(f"input {spec.name} must be {wanted}, not {value.dtype}")
    fits = len(value.shape) == len(spec.shape) and all(
        size is None or size == got for size, got in zip(spec.shape, value.shape, strict=False)
    )
    if not fits:
        told = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise DeviceInputError(f"input {spec.name} must have the shape ({told}), not {value.shape}")
    if value.size == 0:
        raise DeviceInputError(f"input {spec.name} is empty")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(value, wanted)
