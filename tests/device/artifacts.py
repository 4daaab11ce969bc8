"""Real, tiny artifacts: the bundles of the other tests, and a graph that computes like `TinyBackend`."""

from __future__ import annotations

from pathlib import Path

import bundles
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paramcast.artifact.server_read import ServerSide
from paramcast.artifact.server_write import write_server_side


def make_artifact(
    folder: Path,
    *,
    form: str = "full",
    task: str = "qa",
    model: str = bundles.MODEL,
    seed: int = 7,
    device: bool = True,
    public_key: str | None = None,
) -> Path:
    """Write an artifact like `export`; another `seed` gives another hypernetwork for the same base model."""
    if device:
        bundles.make_bundle(folder / "device", task=task, form=form, model=model, public_key=public_key)
    side = ServerSide(
        model=model,
        adapter=form,
        task=task,
        parameters=bundles.parameter_shapes(form),
        uplink_dims=(bundles.IMAGE_UP, bundles.TEXT_UP),
        graph=_hypernetwork(form, seed).SerializeToString(),
    )
    return write_server_side(side, folder)


def _hypernetwork(form: str, seed: int) -> onnx.ModelProto:
    """Make the graph base + tanh(context @ projection); the context is the mean anchor and the mean query."""
    rng = np.random.default_rng(seed)
    shapes, base = bundles.parameter_shapes(form), bundles.base_parameters(form)
    nodes = [*_mean("anchors"), *_mean("queries")]
    nodes.append(helper.make_node("Concat", ["anchors.mean", "queries.mean"], ["context"], axis=1))
    constants = {"one": np.array([1], np.int64), "last": np.array([-1], np.int64), "least": np.array(1, "f4")}
    width = bundles.IMAGE_UP + bundles.TEXT_UP
    for name, shape in shapes.items():
        constants[f"{name}.projection"] = rng.normal(size=(width, int(np.prod(shape)))).astype("f4")
        constants[f"{name}.shape"] = np.array([-1, *shape], np.int64)
        constants[f"{name}.base"] = base[name]
        nodes += [
            helper.make_node("MatMul", ["context", f"{name}.projection"], [f"{name}.flat"]),
            helper.make_node("Tanh", [f"{name}.flat"], [f"{name}.bounded"]),
            helper.make_node("Reshape", [f"{name}.bounded", f"{name}.shape"], [f"{name}.moved"]),
            helper.make_node("Add", [f"{name}.moved", f"{name}.base"], [name]),
        ]
    inputs = []
    for kind, dim in (("anchors", bundles.IMAGE_UP), ("queries", bundles.TEXT_UP)):
        inputs.append(helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["b", kind, dim]))
        inputs.append(helper.make_tensor_value_info(f"{kind}_mask", TensorProto.BOOL, ["b", kind]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", *shape])
            for name, shape in shapes.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def _mean(kind: str) -> list[onnx.NodeProto]:
    """Make nodes for the mean over the rows that the mask selects; zero if it selects none."""
    return [
        helper.make_node("Cast", [f"{kind}_mask"], [f"{kind}.real"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", [f"{kind}.real", "last"], [f"{kind}.weights"]),
        helper.make_node("Mul", [kind, f"{kind}.weights"], [f"{kind}.kept"]),
        helper.make_node("ReduceSum", [f"{kind}.kept", "one"], [f"{kind}.sum"], keepdims=0),
        helper.make_node("ReduceSum", [f"{kind}.weights", "one"], [f"{kind}.count"], keepdims=0),
        helper.make_node("Max", [f"{kind}.count", "least"], [f"{kind}.divisor"]),
        helper.make_node("Div", [f"{kind}.sum", f"{kind}.divisor"], [f"{kind}.mean"]),
    ]
