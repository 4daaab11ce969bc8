"""Calls a torch module with named arguments and outputs, and with temporarily replaced targets."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paramcast.artifact.errors import ExportError
from paramcast.artifact.trees import Tree

_ROWS = 8

Inputs = tuple[Any, ...] | list[Any] | Mapping[str, Any] | Tensor | np.ndarray
Sizes = Mapping[str, Mapping[int, str]]
"""Data input -> its further axes of free length, each with a name; equal names mean equal lengths."""


class Watcher(Protocol):
    """Computes an example's features while the module runs on it."""

    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call the module and return its outputs and the features (N, F) or (N, T, F)."""


def plain_copy(module: nn.Module) -> nn.Module:
    """Copy a module without sharing tensors: float32, on the CPU, in evaluation mode, not compiled."""
    module = getattr(module, "_orig_mod", module)
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():  # deepcopy fails on a weight that a hook computes, which is no leaf
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        replica = copy.deepcopy(module, memo)
    except Exception as error:
        raise ExportError(f"{type(module).__name__} cannot be copied: {first_line(error)}") from error
    floats = [t for t in (*replica.parameters(), *replica.buffers()) if t.is_floating_point()]
    if any(t.dtype != torch.float32 for t in floats):
        replica = replica.float()
    return replica.cpu().eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Call:
    """Call of a module.

    Attributes:
        kind: 'positional', 'keyword' or 'single'.
        tree: Tree of input names, as the module takes its arguments.
        spec: Structure of the given inputs.
        tensors: The inputs by name, on the CPU; floating point inputs are float32.
    """

    kind: str
    tree: Tree
    spec: pytree.TreeSpec
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module, inputs: Inputs) -> Call:
        """Make a call from inputs, which are named after the arguments of the module's `forward`."""
        nested: Any
        if isinstance(inputs, Tensor | np.ndarray):
            kind, nested = "single", (inputs,)
        elif isinstance(inputs, Mapping):
            kind, nested = "keyword", dict(inputs)
        else:
            kind, nested = "positional", tuple(inputs)
        leaves, spec = pytree.tree_flatten(nested)
        values = [torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
        if wrong := [leaf for leaf in values if not isinstance(leaf, Tensor)]:
            raise ExportError(f"inputs must be tensors; a {type(wrong[0]).__name__} is none")
        tree = _named(nested, _argument_names(module, nested) if kind != "keyword" else None)
        tensors = {}
        for name, value in zip(leaf_names(tree), values, strict=True):
            value = value.detach().cpu()
            wide = value.is_floating_point() and value.dtype != torch.float32
            tensors[name] = value.float() if wide else value
        if not tensors:
            raise ExportError("there is no input")
        if any(
            value.dim() == 0 or len(value) != len(first)
            for first in tensors.values()
            for value in tensors.values()
        ):
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
            raise ExportError(
                f"all inputs must have the examples on their first axis; their shapes are: {shapes}"
            )
        return cls(kind, tree[0] if kind == "single" else tree, spec, tensors)

    def bind(self, values: Sequence[Tensor]) -> Any:
        """Return other tensors in the structure of the given inputs."""
        nested = pytree.tree_unflatten(list(values), self.spec)
        return nested[0] if self.kind == "single" else nested


def _argument_names(module: nn.Module, given: Sequence[Any]) -> list[str]:
    """Return the names of positional arguments of `forward`; `input_0`... for arguments without a name."""
    try:
        known = [
            p.name
            for p in inspect.signature(module.forward).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        known = []
    return [known[i] if i < len(known) else f"input_{i}" for i in range(len(given))]


def _named(nested: Any, firsts: Sequence[str] | None) -> Tree:
    """Return the tree of names of nested inputs, in the order of torch's pytree."""

    def walk(value: Any, name: str) -> Tree:
        if isinstance(value, Tensor | np.ndarray):
            return name
        join = f"{name}." if name else ""
        if isinstance(value, Mapping):
            return {str(key): walk(part, f"{join}{key}") for key, part in value.items()}
        if isinstance(value, tuple | list):
            return [walk(part, f"{join}{place}") for place, part in enumerate(value)]
        raise ExportError(f"inputs must be tensors, also nested; {name} is a {type(value).__name__}")

    if firsts is None:
        return walk(nested, "")
    return [walk(value, name) for value, name in zip(nested, firsts, strict=True)]


def leaf_names(tree: Tree) -> list[str]:
    """Return the names of a tree in order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, str)]


def free_axes(call: Call, sizes: Sizes) -> dict[str, dict[int, str]]:
    """Return each input's axes of free length: the first axis and the axes in `sizes`."""
    free: dict[str, dict[int, str]] = {name: {0: "batch"} for name in call.tensors}
    for name, axes in sizes.items():
        if name not in free:
            raise ExportError(
                f"sizes names the input {name!r}, which does not exist; there are {', '.join(free)}"
            )
        for axis, label in axes.items():
            if not 0 <= axis < call.tensors[name].dim():
                raise ExportError(f"sizes: input {name!r} has no axis {axis}")
            free[name][axis] = label
    return free


def sample_rows(count: int) -> Tensor:
    """Return the rows of `count` examples on which a graph is compared: 3 to 8 rows, repeated if needed."""
    return torch.arange(max(3, min(count, _ROWS))) % count


def samples_of(
    tensors: Mapping[str, Tensor], free: Mapping[str, Mapping[int, str]]
) -> list[dict[str, Tensor]]:
    """Return three samples: all examples, the last one, and two with other free axes shortened by a third."""
    rows = sample_rows(len(next(iter(tensors.values()))))
    whole = {name: value[rows] for name, value in tensors.items()}
    other = {name: value[:2] for name, value in whole.items()}
    for name, axes in free.items():
        for axis in axes:
            if axis:
                size = other[name].shape[axis]
                other[name] = other[name].narrow(axis, 0, max(1, size - size // 3))
    return [whole, {name: value[-1:] for name, value in whole.items()}, other]


Places = list[tuple[nn.Module, str]]


def places_of(module: nn.Module, name: str) -> Places:
    """Return all places of the module that hold the tensor called `name`."""
    owner, _, attribute = name.rpartition(".")
    try:
        part = module.get_submodule(owner)
    except AttributeError as error:
        raise ExportError(f"the module has no part {owner!r} for the target {name!r}") from error
    wanted = part._parameters.get(attribute, part._buffers.get(attribute))
    if wanted is None:
        raise ExportError(f"the module has no parameter or buffer {name!r}")
    return [
        (each, key)
        for each in dict.fromkeys(module.modules())
        for table in (each._parameters, each._buffers)
        for key, value in table.items()
        if value is wanted
    ]


@contextmanager
def _swapped(placed: Mapping[str, Places], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace the targets by other tensors while the block runs."""
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for name, places in placed.items():
            for owner, key in places:
                table = owner._parameters if key in owner._parameters else owner._buffers
                before.append((owner, key, table[key]))
                _put(owner, key, values[name])
        yield
    finally:
        for owner, key, value in reversed(before):
            _put(owner, key, value)


def _put(owner: nn.Module, key: str, value: Any) -> None:
    (owner._parameters if key in owner._parameters else owner._buffers)[key] = value
    flat: Any = getattr(owner, "_flat_weights_names", ())
    if key in flat:  # recurrent layers also keep a list of their weights
        weights: Any = owner._flat_weights
        weights[flat.index(key)] = value


class Tap:
    """Watcher that takes the output (N, F) of a submodule as the features."""

    def __init__(self, name: str) -> None:
        self._name = name

    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call the module under a hook that is removed afterwards."""
        seen: list[Any] = []
        try:
            part = module.get_submodule(self._name)
        except AttributeError as error:
            raise ExportError(f"the module has no part {self._name!r} to take the context from") from error
        handle = part.register_forward_hook(lambda part, given, output: seen.append(output))
        try:
            outputs = called(module, inputs)
        finally:
            handle.remove()
        features = seen[-1] if seen else None
        features = features[0] if isinstance(features, tuple | list) and features else features
        if not isinstance(features, Tensor) or features.dim() != 2:
            told = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ExportError(f"the context must be (N, F); the part {self._name!r} gives {told}")
        return outputs, features.float()


def called(module: nn.Module, inputs: Any) -> Any:
    """Call a module with keywords (a mapping), positional arguments (a tuple or list) or a single tensor."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple | list) else module(inputs)


class Wrapper(nn.Module):
    """The module as a function of data and targets that returns a flat tuple of tensors."""

    def __init__(
        self, module: nn.Module, call: Call, placed: Mapping[str, Places], watcher: Watcher | None
    ) -> None:
        super().__init__()
        self.module = module
        self._call, self._placed, self._watcher = call, dict(placed), watcher
        self.tree: Tree = None

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Run the module on data in the order of the call, then targets; returns outputs, then features."""
        if (
            torch._C._get_tracing_state() is not None
        ):  # torch 2.13 switches on a log of whole graphs by itself
            torch._C._jit_set_onnx_log_enabled(False)
        count = len(self._call.tensors)
        inputs = self._call.bind(flat[:count])
        with _swapped(self._placed, dict(zip(self._placed, flat[count:], strict=True))):
            if self._watcher is None:
                outputs, features = called(self.module, inputs), None
            else:
                outputs, features = self._watcher.run(self.module, inputs)
        found: dict[str, Tensor] = {}
        self.tree = collect(outputs, "", found)
        return (*found.values(), *(() if features is None else (features,)))

    @property
    def watched(self) -> bool:
        """Whether the features are the last output."""
        return self._watcher is not None


def collect(value: Any, name: str, found: dict[str, Tensor]) -> Tree:
    """Put the tensors of nested outputs into `found` and return the tree of their names."""
    if isinstance(value, Tensor):
        label = name or "output"
        found[label] = value.float() if value.is_floating_point() and value.dtype != torch.float32 else value
        return label
    join = f"{name}." if name else ""
    if isinstance(value, Mapping):
        return {str(key): collect(part, f"{join}{key}", found) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return {key: collect(part, f"{join}{key}", found) for key, part in parts.items() if part is not None}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {key: collect(getattr(value, key), f"{join}{key}", found) for key in value._fields}
    if isinstance(value, tuple | list):
        join = join or "output_"
        return [collect(part, f"{join}{place}", found) for place, part in enumerate(value)]
    return None


def definition(wrapper: Wrapper, sample: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> list[Tensor]:
    """Run the module itself, without a graph. Raises ExportError if it fails."""
    try:
        return [t.clone() for t in wrapper(*sample.values(), *values.values())]
    except ExportError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sample.items())
        raise ExportError(f"the module fails on inputs of shapes {shapes}: {first_line(error)}") from error


def moved_values(base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return changed values of the targets; all-positive targets stay positive, which variances need."""
    random = torch.Generator().manual_seed(0)
    moved = {}
    for name, value in base.items():
        noise = torch.randn(value.shape, generator=random)
        size = value.square().mean().sqrt() if value.numel() else value.sum()
        step = (
            value * noise.mul(0.1).exp() if (value > 0).all() else value + 0.1 * noise * size.clamp(min=0.1)
        )
        moved[name] = step.to(value.dtype)
    return moved


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; for torch's exporter, of the message of its cause."""
    if type(error).__module__.startswith("torch.onnx") and isinstance(error.__cause__, Exception):
        return first_line(error.__cause__)
    text = str(error).strip() or type(error).__name__
    return (
        f"{text.splitlines()[0][:300]}"
        if isinstance(error, ExportError)
        else f"{type(error).__name__}: " + (text.splitlines()[0][:300])
    )
