"""A torch module as an ONNX graph whose targets are inputs; compared with the module before anyone runs it.

torch's tracing exporter is tried first: it keeps every target as it is and is ten times as fast. Where it fails,
or gives other numbers than the module, the exporter on top of `torch.export` is tried.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paramcast.artifact.errors import ExportError
from paramcast.artifact.read import TensorSpec
from paramcast.artifact.trees import Tree
from paramcast.errors import MissingExtraError

OPSET = 18
IR_VERSION = 10
"""The newest that onnxruntime 1.20 and the browser's read."""

TOLERANCE = 1e-4
"""Largest difference between module and graph, as a share of the largest output."""

CONTEXT = "context"
"""Name of the output that holds an example's features."""

_ROWS = 8
_log = logging.getLogger(__name__)

Inputs = tuple[Any, ...] | list[Any] | Mapping[str, Any] | Tensor | np.ndarray
Sizes = Mapping[str, Mapping[int, str]]
"""Data input -> its further axes of free length, with a name each; equal names have equal lengths."""


class Watcher(Protocol):
    """Computes an example's features while the module runs on it."""

    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call the module; return its outputs and the features (N, F) or (N, T, F)."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph and how it is called.

    Attributes:
        graph: The ONNX file.
        exporter: 'torchscript' or 'dynamo'.
        call: 'positional', 'keyword' or 'single'.
        arguments: Tree of input names, as the module takes its arguments.
        inputs, outputs: Of the data; the context is not among the outputs.
        structure: Tree of output names, as the module gives its outputs.
        targets: Target -> the graph's input for it.
        context: The features' output, if there is one.
        example: The inputs that the graph was compared on, by name.
    """

    graph: bytes
    exporter: str
    call: str
    arguments: Tree
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    structure: Tree
    targets: Mapping[str, str]
    context: TensorSpec | None
    example: Mapping[str, np.ndarray]


def trace(
    module: nn.Module,
    inputs: Inputs,
    targets: Mapping[str, Tensor],
    tap: str | Watcher | None = None,
    *,
    sizes: Sizes | None = None,
    names_of: nn.Module | None = None,
) -> Traced:
    """Write a module as an ONNX graph that takes the data and every target.

    Args:
        module: Left as it is; modules of other types than float32 are written as float32.
        inputs: Real examples: a tuple (positional), a mapping (keywords) or one tensor, also nested; every tensor
            has the examples on its first axis.
        targets: Parameters and buffers of the module by dotted name, as they are without an update.
        tap: A submodule whose output (N, F) is the output `context`, or what computes the features.
        sizes: Further axes of free length.
        names_of: The module whose `forward` names the positional inputs; the module itself by default.

    Raises:
        ExportError: No exporter writes a graph that gives the module's outputs.
    """
    replica = plain_copy(module)
    call = _Call.of(names_of or replica, inputs)
    free = _free_axes(call, sizes or {})
    placed = {name: _places(replica, name) for name in targets}
    base = {name: value.detach().to("cpu", torch.float32).clone() for name, value in targets.items()}
    wrapper = _Wrapper(replica, call, placed, _Tap(tap) if isinstance(tap, str) else tap)
    samples = _samples(call.tensors, free)
    with _no_fast_path(), torch.no_grad():
        known = [
            _definition(wrapper, sample, values) for sample in samples for values in (base, _moved(base))
        ]
        out = _Outputs.of(wrapper, call, known[0], known[-2])
        _same_twice(out, known[0], _definition(wrapper, samples[0], base))
        failures: list[str] = []
        for name, export in (("torchscript", _by_tracing), ("dynamo", _by_dynamo)):
            job = _Job(wrapper, samples[0], base, free, out, _input_names(targets, call, out))
            try:
                with redirect_stdout(io.StringIO()):  # where the tracer prints whole graphs
                    made = export(job)
                graph = _finished(made, job)
                _compare(graph, job, samples, known)
            except Exception as error:  # exporters raise whatever they like
                _log.info("export by %s failed: %s", name, error)
                failures.append(f"{name}: {_first_line(error)}")
                continue
            return _traced(graph, name, job, call, samples[0])
    raise ExportError(
        f"{type(module).__name__} cannot be written as a graph that gives its outputs; " + "; ".join(failures)
    )


def plain_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module in evaluation mode, float32, on the CPU, not compiled; it shares no tensor."""
    module = getattr(module, "_orig_mod", module)
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():  # a weight that a hook computes is no leaf and cannot be copied
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        replica = copy.deepcopy(module, memo)
    except Exception as error:
        raise ExportError(f"{type(module).__name__} cannot be copied: {_first_line(error)}") from error
    floats = [t for t in (*replica.parameters(), *replica.buffers()) if t.is_floating_point()]
    if any(t.dtype != torch.float32 for t in floats):
        replica = replica.float()
    return replica.cpu().eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class _Call:
    """How the module is called, and its arguments by name."""

    kind: str
    tree: Tree
    spec: pytree.TreeSpec
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module, inputs: Inputs) -> _Call:
        if isinstance(inputs, Tensor | np.ndarray):
            kind, nested = "single", (inputs,)
        elif isinstance(inputs, Mapping):
            kind, nested = "keyword", dict(inputs)  # type: ignore[assignment]
        else:
            kind, nested = "positional", tuple(inputs)  # type: ignore[assignment]
        leaves, spec = pytree.tree_flatten(nested)
        values = [torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
        if wrong := [leaf for leaf in values if not isinstance(leaf, Tensor)]:
            raise ExportError(f"inputs must be tensors; a {type(wrong[0]).__name__} is none")
        tree = _named(nested, _argument_names(module, nested) if kind != "keyword" else None)
        tensors = {}
        for name, value in zip(_leaf_names(tree), values, strict=True):
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
        """Return the inputs as they were given, with other tensors."""
        nested = pytree.tree_unflatten(list(values), self.spec)
        return nested[0] if self.kind == "single" else nested


def _argument_names(module: nn.Module, given: Sequence[Any]) -> list[str]:
    """Return the names of positional arguments of `forward`; `input_0`... where it names none."""
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


def _leaf_names(tree: Tree) -> list[str]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, str)]


def _free_axes(call: _Call, sizes: Sizes) -> dict[str, dict[int, str]]:
    """Return each input's axes of free length: the first one, and those that were told."""
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
    """Return the rows of `count` examples that a graph is compared on: 3 to 8, repeated where there are fewer."""
    return torch.arange(max(3, min(count, _ROWS))) % count


def _samples(tensors: Mapping[str, Tensor], free: Mapping[str, Mapping[int, str]]) -> list[dict[str, Tensor]]:
    """Return the examples in two sizes of batch (and of other free axes), and one alone."""
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


def _places(module: nn.Module, name: str) -> Places:
    """Return every place of the module that holds the tensor called `name`."""
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
    """Have other tensors in the place of the targets while the block runs."""
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
    flat = getattr(owner, "_flat_weights_names", ())
    if key in flat:  # recurrent layers keep a list of their weights
        owner._flat_weights[flat.index(key)] = value  # type: ignore[index,union-attr,operator]


class _Tap:
    """The output (N, F) of a submodule."""

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
    """Call a module: a mapping gives keywords, a tuple or list is positional, a tensor is the one argument."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple | list) else module(inputs)


class _Wrapper(nn.Module):
    """The module as a function of data and targets that gives a flat tuple of tensors."""

    def __init__(
        self, module: nn.Module, call: _Call, placed: Mapping[str, Places], watcher: Watcher | None
    ) -> None:
        super().__init__()
        self.module = module
        self._call, self._placed, self._watcher = call, dict(placed), watcher
        self.tree: Tree = None

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Data in the order of the call, then targets -> outputs, then the features."""
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
        """Whether the features come last."""
        return self._watcher is not None


def collect(value: Any, name: str, found: dict[str, Tensor]) -> Tree:
    """Put the tensors of nested outputs into `found`; return the tree of their names."""
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


def _definition(
    wrapper: _Wrapper, sample: Mapping[str, Tensor], values: Mapping[str, Tensor]
) -> list[Tensor]:
    """Run the module itself."""
    try:
        return [t.clone() for t in wrapper(*sample.values(), *values.values())]
    except ExportError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sample.items())
        raise ExportError(f"the module fails on inputs of shapes {shapes}: {_first_line(error)}") from error


def _moved(base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return other values of the targets; what is positive stays so, as variances must."""
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


@dataclass(frozen=True, eq=False)
class _Outputs:
    """Names of the outputs, and what the module's outputs look like."""

    names: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    tree: Tree
    watched: bool

    @classmethod
    def of(cls, wrapper: _Wrapper, call: _Call, one: Sequence[Tensor], other: Sequence[Tensor]) -> _Outputs:
        raw = _leaf_names(wrapper.tree) + ([CONTEXT] if wrapper.watched else [])
        if len(raw) == wrapper.watched:
            raise ExportError("the module gives no tensor")
        taken: set[str] = {*call.tensors, CONTEXT}
        names: dict[str, str] = {}
        for name in raw[: len(raw) - wrapper.watched]:
            fresh = name
            while fresh in taken:
                fresh += "_out"
            taken.add(fresh)
            names[name] = fresh
        final = [names.get(name, name) for name in raw]
        specs = tuple(
            TensorSpec(
                name,
                str(a.dtype).removeprefix("torch."),
                tuple(n if n == m else None for n, m in zip(a.shape, b.shape, strict=True)),
            )
            for name, a, b in zip(final, one, other, strict=True)
        )
        tree = pytree.tree_map(lambda leaf: names[leaf] if isinstance(leaf, str) else leaf, wrapper.tree)
        return cls(tuple(final), specs, tree, wrapper.watched)


@dataclass(frozen=True, eq=False)
class _Job:
    """What an exporter is asked for."""

    wrapper: _Wrapper
    sample: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    out: _Outputs
    target_inputs: Mapping[str, str]

    @property
    def input_names(self) -> list[str]:
        """Data, then targets."""
        return [*self.sample, *self.target_inputs.values()]

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """Data, then targets."""
        return (*self.sample.values(), *self.base.values())


def _input_names(targets: Mapping[str, Tensor], call: _Call, out: _Outputs) -> dict[str, str]:
    taken = {*call.tensors, *out.names}
    names = {}
    for name in targets:
        fresh = name
        while fresh in taken:
            fresh += ".value"
        taken.add(fresh)
        names[name] = fresh
    return names


def _by_tracing(job: _Job) -> onnx.ModelProto:
    axes: dict[str, dict[int, str]] = {name: dict(free) for name, free in job.free.items()}
    for spec in job.out.specs:
        axes[spec.name] = {
            axis: f"{spec.name}_{axis}" for axis, size in enumerate(spec.shape) if size is None
        }
    file = io.BytesIO()
    torch.onnx.export(
        job.wrapper,
        job.arguments,
        file,  # type: ignore[arg-type]
        input_names=job.input_names,
        output_names=list(job.out.names),
        dynamic_axes={name: free for name, free in axes.items() if free},
        opset_version=OPSET,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,  # what evaluation would fuse, an update could not change
    )
    return onnx.load_from_string(file.getvalue())


def _by_dynamo(job: _Job) -> onnx.ModelProto:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("torch's exporter", "train") from error
    data = [{axis: torch.export.Dim.DYNAMIC for axis in job.free[name]} for name in job.sample]
    program = torch.onnx.export(
        job.wrapper,
        job.arguments,
        input_names=job.input_names,
        output_names=list(job.out.names),
        dynamic_shapes=((*data, *({} for _ in job.base)),),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _finished(model: onnx.ModelProto, job: _Job) -> bytes:
    """Pin the versions, and see that every target is an input that something reads."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    used = {node.domain for node in _nodes(model.graph)} - {"", "ai.onnx", "ai.onnx.ml"}
    if opsets.get("") != OPSET or used or model.functions:
        raise ExportError(f"the graph needs operators of {opsets}, not of opset {OPSET} alone")
    model.ir_version = min(model.ir_version, IR_VERSION)
    inputs = {value.name for value in model.graph.input} - {value.name for value in model.graph.initializer}
    read = {name for node in _nodes(model.graph) for name in node.input} | {
        v.name for v in model.graph.output
    }
    lost = [name for name, given in job.target_inputs.items() if given not in inputs or given not in read]
    if lost:
        raise ExportError(
            f"the graph does not read the target {lost[0]}, so that updates would have no effect"
        )
    for name in list(inputs - {*job.input_names}):
        raise ExportError(f"the graph asks for {name}, which nothing gives")
    model.producer_version, model.doc_string = "", ""
    for node in _nodes(model.graph):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    data = model.SerializeToString(deterministic=True)
    if len(data) >= 2**31:
        raise ExportError("the graph is larger than 2 GB, which no device of ours reads")
    return data


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _compare(
    graph: bytes, job: _Job, samples: Sequence[Mapping[str, Tensor]], known: Sequence[Sequence[Tensor]]
) -> None:
    """Raise ExportError where the graph's outputs are not the module's, on any sample, base or changed."""
    run = session(graph)
    asked = {node.name for node in run.get_inputs()}
    moved = _moved(job.base)
    cases = [
        (sample, values, what)
        for sample in samples
        for values, what in ((job.base, "base"), (moved, "changed"))
    ]
    for (sample, values, what), expected in zip(cases, known, strict=True):
        feed = {name: value.numpy() for name, value in sample.items() if name in asked}
        feed |= {given: values[name].numpy() for name, given in job.target_inputs.items()}
        size = len(next(iter(sample.values())))
        for name, wanted, got in zip(
            job.out.names, expected, run.run(list(job.out.names), feed), strict=True
        ):
            if (error := distance(wanted.numpy(), got)) > TOLERANCE:
                raise ExportError(
                    f"output {name} is off by {error:.2g} of its size for {size} examples and {what} targets"
                )


def distance(wanted: np.ndarray, got: np.ndarray) -> float:
    """Return the largest difference of two arrays as a share of the largest wanted value; inf for other shapes."""
    if wanted.shape != got.shape:
        return float("inf")
    a, b = wanted.astype(np.float64), np.asarray(got).astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(
        a[~finite], b[~finite], equal_nan=True
    ):
        return float("inf")
    scale = np.abs(a[finite]).max(initial=0.0)
    return float(np.abs(a - b)[finite].max(initial=0.0) / max(scale, 1e-12)) if finite.any() else 0.0


def session(graph: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _same_twice(out: _Outputs, one: Sequence[Tensor], two: Sequence[Tensor]) -> None:
    for name, a, b in zip(out.names, one, two, strict=True):
        if distance(a.numpy(), b.numpy()) > TOLERANCE:
            raise ExportError(
                f"output {name} of the module is random in evaluation mode; it cannot be a graph"
            )


def _traced(graph: bytes, exporter: str, job: _Job, call: _Call, sample: Mapping[str, Tensor]) -> Traced:
    inputs = tuple(
        TensorSpec(
            name,
            str(value.dtype).removeprefix("torch."),
            tuple(None if axis in job.free[name] else size for axis, size in enumerate(value.shape)),
        )
        for name, value in sample.items()
    )
    count = len(job.out.specs) - job.out.watched
    return Traced(
        graph,
        exporter,
        call.kind,
        call.tree,
        inputs,
        job.out.specs[:count],
        job.out.tree,
        job.target_inputs,
        job.out.specs[-1] if job.out.watched else None,
        {name: value.numpy() for name, value in sample.items()},
    )


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Have attention go its usual way, which is made of operators that ONNX knows; and no warnings."""
    before: bool = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return (
        f"{text.splitlines()[0][:300]}"
        if isinstance(error, ExportError)
        else f"{type(error).__name__}: " + (text.splitlines()[0][:300])
    )
