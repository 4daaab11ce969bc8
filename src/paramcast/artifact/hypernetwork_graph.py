"""Writes a hypernetwork as an ONNX graph that maps the devices' features to the tensors of their updates."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from paramcast.artifact.errors import ExportError
from paramcast.artifact.trace import IR_VERSION, OPSET, TOLERANCE, distance, session
from paramcast.hypernet.context import ContextInputs

INPUTS = ("anchors", "anchors_mask", "queries", "queries_mask")


def hypernetwork_graph(
    hypernetwork: Any, shapes: Mapping[str, tuple[int, ...]], uplink_dims: tuple[int, int]
) -> bytes:
    """Write a hypernetwork with its gain predictor as an ONNX file.

    Args:
        hypernetwork: A module with `gated(ContextInputs)` -> tensors of an update (B, *shape).
        shapes: Names and shapes of an update's tensors.
        uplink_dims: Columns of anchors and of queries.

    Raises:
        ExportError: The outputs of graph and module differ.
    """
    module = _Generate(hypernetwork, list(shapes)).eval()
    graph = _export(module, list(shapes), _inputs(2, 3, 3, uplink_dims))
    run = session(graph)
    for devices, anchors, queries in ((2, 3, 3), (3, 5, 0), (1, 1, 1)):
        inputs = _inputs(devices, anchors, queries, uplink_dims)
        with torch.no_grad():
            wanted = module(*inputs.values())
        feed = {name: value.numpy() for name, value in inputs.items()}
        asked = {node.name for node in run.get_inputs()}
        got = run.run(list(shapes), {name: value for name, value in feed.items() if name in asked})
        for name, a, b in zip(shapes, wanted, got, strict=True):
            # Engines differ in the last digits of a sigmoid near zero.
            if (error := distance(a.numpy(), b, least=1e-3)) > TOLERANCE:
                raise ExportError(
                    f"the hypernetwork's graph differs by {error:.2g} of {name} for {devices} devices"
                )
    return graph


class _Generate(nn.Module):
    """A hypernetwork as a function of arrays."""

    def __init__(self, hypernetwork: Any, names: list[str]) -> None:
        super().__init__()
        self.inner = copy.deepcopy(hypernetwork).float().cpu().eval()
        for part in list(self.inner.modules()):
            for key, child in part.named_children():
                if isinstance(child, nn.BatchNorm1d):
                    setattr(part, key, _FixedNorm(child))
        # The hypernetwork keeps this module out of its state, but the tracer has to know it.
        self.kept = nn.ModuleList(_hidden(self.inner))
        self._names = names

    def forward(self, *known: Tensor) -> tuple[Tensor, ...]:
        """Generate the tensors of an update from anchors, their mask, queries and their mask."""
        values = self.inner.gated(ContextInputs(*known))
        return tuple(values[name] for name in self._names)


def _hidden(module: nn.Module) -> list[nn.Module]:
    """Return the base module's replica, in a list, if the hypernetwork holds one outside of its state."""
    replica = getattr(getattr(module, "adapted", None), "replica", None)
    return [replica] if isinstance(replica, nn.Module) else []


class _FixedNorm(nn.Module):
    """Normalizes with fixed statistics; the tracer need not know the number of columns."""

    mean: Tensor
    scale: Tensor

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.detach()
        shift = 0.0 if norm.bias is None else norm.bias.detach() / scale
        self.register_buffer("mean", norm.running_mean - shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, C) -> (B, C)."""
        return (x - self.mean) * self.scale


def _inputs(devices: int, anchors: int, queries: int, dims: tuple[int, int]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(devices)
    mask = torch.ones(devices, anchors, dtype=torch.bool)
    if anchors > 1 and devices > 1:
        mask[0, -1] = False
    return {
        "anchors": torch.randn(devices, anchors, dims[0], generator=random) * mask[..., None],
        "anchors_mask": mask,
        "queries": torch.randn(devices, queries, dims[1], generator=random),
        "queries_mask": torch.ones(devices, queries, dtype=torch.bool),
    }


def _export(module: nn.Module, outputs: list[str], inputs: Mapping[str, Tensor]) -> bytes:
    axes: dict[str, dict[int, str]] = {
        name: {0: "devices", 1: name.removesuffix("_mask")} for name in inputs
    } | {name: {0: "devices"} for name in outputs}
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer warnings about values that are constants here
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            file,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(file.getvalue())
    model.ir_version = min(model.ir_version, IR_VERSION)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
