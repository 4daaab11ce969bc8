"""What a server needs of a trained model."""

from __future__ import annotations

import copy
import io
from typing import Protocol

import torch
from torch import Tensor, nn

from paramcast.artifact.server_read import OnnxHypernetwork, ServerSide
from paramcast.hypernet import Hypernetwork
from paramcast.hypernet.context import ContextInputs
from paramcast.video.models.parts import FeatureNorm
from paramcast.video.training.export import trace_graph


class ServedConfig(Protocol):
    """What the service tells of a model."""

    @property
    def task(self) -> str:
        """What its outputs are for."""


class Served(Protocol):
    """A model whose packages can be served: a `TrainedModel`, or an `OwnModel` of a user's module."""

    @property
    def config(self) -> ServedConfig:
        """What it is."""

    @property
    def adaptor(self) -> Hypernetwork:
        """The adaptor that serves devices."""

    def sha256(self) -> str:
        """Hex digest of all that a package belongs to."""


def server_side(trained: Served) -> ServerSide:
    """What a server needs of a trained model: its hypernetwork, gate included, as a graph."""
    adaptor = trained.adaptor.eval()
    return ServerSide(
        model=trained.sha256(),
        adapter=adaptor.config.form,
        task=trained.config.task,
        parameters=dict(adaptor.dynamic.shapes),
        uplink_dims=(adaptor.config.image_dim, adaptor.config.text_dim),
        graph=_graph(adaptor),
    )


class OnnxBackend(OnnxHypernetwork):
    """The same as a service makes of the artifact, in the process that holds the trained model."""

    def __init__(self, trained: Served) -> None:
        super().__init__(server_side(trained))


class _Generate(nn.Module):
    """An adaptor as a function of arrays."""

    def __init__(self, adaptor: Hypernetwork) -> None:
        super().__init__()
        self.adaptor = copy.deepcopy(adaptor)
        self.adaptor.fda.norm = _fixed(adaptor.fda.norm)  # type: ignore[assignment]
        self.dynamic = self.adaptor.dynamic  # so the tracer knows its parameters, and makes them constants

    def forward(self, *known: Tensor) -> tuple[Tensor, ...]:
        values = self.adaptor.gated(ContextInputs(*known))
        return tuple(values[name] for name in self.adaptor.dynamic.shapes)


def _fixed(norm: nn.BatchNorm1d) -> FeatureNorm:
    """What a batch norm does outside of training; it is exported only for a number of columns known there."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    fixed = FeatureNorm(norm.num_features)
    fixed.mean.copy_(norm.running_mean)
    fixed.scale.copy_((norm.running_var + norm.eps).rsqrt())
    return fixed


def _graph(adaptor: Hypernetwork) -> bytes:
    """The graph of an adaptor, whose inputs and outputs are those of `paramcast.artifact.server_read`."""
    inputs: dict[str, Tensor] = {}
    for kind, dim in (("anchors", adaptor.config.image_dim), ("queries", adaptor.config.text_dim)):
        inputs |= {kind: torch.zeros(2, 3, dim), f"{kind}_mask": torch.ones(2, 3, dtype=torch.bool)}
    outputs = list(adaptor.dynamic.shapes)
    axes = {name: {0: "devices", 1: name.removesuffix("_mask")} for name in inputs}
    graph = io.BytesIO()
    trace_graph(_Generate(adaptor), graph, inputs, outputs, axes | {name: {0: "devices"} for name in outputs})
    return graph.getvalue()
