"""Multiply-accumulates of an ONNX graph, counted from the shapes of a real run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

Shape = tuple[int, ...]


def count_macs(path: Path | str, feed: Mapping[str, np.ndarray]) -> int:
    """Count the multiply-accumulates of the convolutions and matrix products of one run.

    Shapes are taken from the run itself, since static inference fails for graphs that resize their input, or
    that compute shapes.

    Args:
        path: The graph.
        feed: Its inputs.
    """
    model = onnx.load(str(path))
    nodes = [node for node in model.graph.node if node.op_type in _COUNTED]
    shapes = _shapes(model, {name for node in nodes for name in (*node.input, *node.output) if name}, feed)
    return sum(
        _COUNTED[node.op_type](node, [shapes[name] for name in node.input if name], shapes[node.output[0]])
        for node in nodes
    )


def _shapes(model: onnx.ModelProto, names: set[str], feed: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """Return the shape of every tensor of `names`."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= {name: value.shape for name, value in feed.items()}
    inner = sorted(names - shapes.keys())
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Fusions are off, since they would remove some of these tensors.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    declared = {node.name for node in session.get_inputs()}
    outputs = session.run(inner, {name: value for name, value in feed.items() if name in declared})
    return shapes | {name: output.shape for name, output in zip(inner, outputs, strict=True)}


def _conv(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count the products: (channels of a group) x (kernel) for every output."""
    return prod(output) * prod(inputs[1][1:])


def _matmul(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    return prod(output) * inputs[0][-1]


def _gemm(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(output) * inputs[0][0 if transposed else 1]


_COUNTED: dict[str, Callable[[onnx.NodeProto, Sequence[Shape], Shape], int]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
