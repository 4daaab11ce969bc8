"""Writes a torch module as an ONNX graph with its targets as inputs, and compares graph and module.

torch's tracing exporter is tried first: it leaves every target unchanged and is ten times as fast. If it
fails, or the graph's outputs differ from the module's, the exporter on top of `torch.export` is tried.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paramcast.artifact.calling import (
    Call,
    Inputs,
    Sizes,
    Tap,
    Watcher,
    Wrapper,
    definition,
    first_line,
    free_axes,
    leaf_names,
    moved_values,
    places_of,
    plain_copy,
    samples_of,
)
from paramcast.artifact.errors import ExportError
from paramcast.artifact.manifest import TensorSpec
from paramcast.artifact.operators import PlainOperators, broadcast_masks, traced_lengths
from paramcast.artifact.trees import Tree
from paramcast.errors import MissingExtraError

OPSET = 18
IR_VERSION = 10
"""The newest version that onnxruntime 1.20 and the browser's runtime read."""

TOLERANCE = 1e-4
"""Largest difference between module and graph, as a share of the largest output."""
CONTEXT_TOLERANCE = 1e-2
"""Tolerance for features. It is larger, because a deviation of nearly equal numbers is ill-conditioned;
features are sent in 8 bits anyway."""

CONTEXT = "context"
"""Name of the output that holds an example's features."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph and how it is called.

    Attributes:
        graph: The ONNX file.
        exporter: 'torchscript' or 'dynamo'.
        call: 'positional', 'keyword' or 'single'.
        arguments: Tree of input names, as the module takes its arguments.
        inputs: Inputs for the data.
        outputs: Outputs of the module, without the context.
        structure: Tree of output names, as the module returns its outputs.
        targets: Target -> the graph's input for it.
        context: The output with the features, if there is one.
        example: Inputs on which the graph was compared, by name.
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
        module: The module, which is not changed. Modules of other dtypes than float32 are written as float32.
        inputs: Real examples: a tuple (positional), a mapping (keywords) or one tensor, also nested; every
            tensor has the examples on its first axis.
        targets: Parameters and buffers of the module by dotted name, with their values without an update.
        tap: Name of a submodule whose output (N, F) becomes the output `context`, or an object that computes
            the features.
        sizes: Further axes of free length.
        names_of: The module whose `forward` names the positional inputs; by default `module`.

    Raises:
        ExportError: No exporter writes a graph with the module's outputs.
    """
    replica = plain_copy(module)
    call = Call.of(names_of or replica, inputs)
    free = free_axes(call, sizes or {})
    placed = {name: places_of(replica, name) for name in targets}
    base = {name: value.detach().to("cpu", torch.float32).clone() for name, value in targets.items()}
    wrapper = Wrapper(replica, call, placed, Tap(tap) if isinstance(tap, str) else tap)
    samples = samples_of(call.tensors, free)
    with _no_fast_path(), torch.no_grad():
        known = [
            definition(wrapper, sample, values) for sample in samples for values in (base, moved_values(base))
        ]
        out = _Outputs.of(wrapper, call, known[0], known[-2])
        _same_twice(out, known[0], definition(wrapper, samples[0], base))
        failures: list[str] = []
        for name, export in (("torchscript", _by_tracing), ("dynamo", _by_dynamo)):
            job = _Job(wrapper, samples[0], base, free, out, _input_names(targets, call, out))
            try:
                graph = _finished(export(job), job)
                _compare(graph, job, samples, known)
            except Exception as error:  # exporters raise errors of many classes
                _log.info("export by %s failed: %s", name, error)
                failures.append(f"{name}: {first_line(error)}")
                continue
            return _traced(graph, name, job, call, samples[0])
    raise ExportError(
        f"{type(module).__name__} cannot be written as a graph that gives the same outputs; "
        + "; ".join(failures)
    )


@dataclass(frozen=True, eq=False)
class _Outputs:
    """Names, tensors and structure of the module's outputs; `watched`: the last tensor holds the features."""

    names: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    tree: Tree
    watched: bool

    @classmethod
    def of(cls, wrapper: Wrapper, call: Call, one: Sequence[Tensor], other: Sequence[Tensor]) -> _Outputs:
        raw = leaf_names(wrapper.tree) + ([CONTEXT] if wrapper.watched else [])
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
    """Inputs of an exporter."""

    wrapper: Wrapper
    sample: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    out: _Outputs
    target_inputs: Mapping[str, str]

    @property
    def input_names(self) -> list[str]:
        """Names of the data, then of the targets."""
        return [*self.sample, *self.target_inputs.values()]

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """Tensors of the data, then of the targets."""
        return (*self.sample.values(), *self.base.values())


def _input_names(targets: Mapping[str, Tensor], call: Call, out: _Outputs) -> dict[str, str]:
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
    with PlainOperators(), traced_lengths(), broadcast_masks():
        torch.onnx.export(
            job.wrapper,
            job.arguments,
            file,  # type: ignore[arg-type]
            input_names=job.input_names,
            output_names=list(job.out.names),
            dynamic_axes={name: free for name, free in axes.items() if free},
            opset_version=OPSET,
            dynamo=False,
            # In evaluation mode the exporter fuses layers; an update could not change their parameters.
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return onnx.load_from_string(file.getvalue())


def _by_dynamo(job: _Job) -> onnx.ModelProto:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("torch's exporter", "train") from error
    data = [dict.fromkeys(job.free[name], torch.export.Dim.DYNAMIC) for name in job.sample]
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
    """Pin the versions, and check that every target is an input that the graph reads."""
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
        raise ExportError(f"the graph needs {name}, which nothing computes")
    model.producer_version, model.doc_string = "", ""
    for node in _nodes(model.graph):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    data: bytes = model.SerializeToString(deterministic=True)
    if len(data) >= 2**31:
        raise ExportError("the graph is larger than 2 GB, which devices cannot read")
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
    """Raise ExportError if outputs of graph and module differ on a sample, with base or changed targets."""
    run = session(graph)
    asked = {node.name for node in run.get_inputs()}
    moved = moved_values(job.base)
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
            limit = CONTEXT_TOLERANCE if name == CONTEXT else TOLERANCE
            if (error := distance(wanted.numpy(), got)) > limit:
                raise ExportError(
                    f"output {name} differs by {error:.2g} of its size for {size} examples and {what} targets"
                )


def distance(wanted: np.ndarray, got: np.ndarray, least: float = 1e-12) -> float:
    """Compute the largest difference of two arrays as a share of the largest wanted magnitude.

    The magnitude counts as `least` if it is smaller. Different shapes or non-finite values give infinity.
    """
    if wanted.shape != got.shape:
        return float("inf")
    a, b = wanted.astype(np.float64), np.asarray(got).astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(
        a[~finite], b[~finite], equal_nan=True
    ):
        return float("inf")
    scale = np.abs(a[finite]).max(initial=0.0)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / max(scale, least))


def session(graph: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a session of a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _same_twice(out: _Outputs, one: Sequence[Tensor], two: Sequence[Tensor]) -> None:
    for name, a, b in zip(out.names, one, two, strict=True):
        if distance(a.numpy(), b.numpy()) > TOLERANCE:
            raise ExportError(
                f"output {name} of the module is random in evaluation mode; it cannot be a graph"
            )


def _traced(graph: bytes, exporter: str, job: _Job, call: Call, sample: Mapping[str, Tensor]) -> Traced:
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
    """Disable warnings and the fast path of attention; only its normal path consists of ONNX operators."""
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
