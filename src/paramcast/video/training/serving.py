"""What the cloud service needs of a trained model."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from paramcast.hypernet.context import ContextInputs
from paramcast.hypernet.forms import FormHypernetwork
from paramcast.protocol import AdaptRequest
from paramcast.video.encoders.base import onnx_session
from paramcast.video.models.parts import FeatureNorm
from paramcast.video.training.arrays import padded
from paramcast.video.training.export import trace_graph
from paramcast.video.training.model import TrainedModel


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
    def adaptor(self) -> FormHypernetwork:
        """The adaptor that serves devices."""

    def sha256(self) -> str:
        """Hex digest of all that a package belongs to."""


class OnnxBackend:
    """Generates with ONNX Runtime, all requests of a call in one batch: a `paramcast.server.AdaptBackend`.

    Attributes:
        model: sha256 hex of the base model that the packages are for.
        form: Of the generated parameters.
        task: 'qa', 'choice' or 'retrieval', or what the user of an own model calls it.
        parameters: Package tensor -> its shape.
        uplink_dims: Lengths of an anchor's and of a query's uplink feature.
    """

    def __init__(self, trained: Served) -> None:
        adaptor = trained.adaptor.eval()
        self.model = trained.sha256()
        self.form, self.task = adaptor.form, trained.config.task
        self.parameters: Mapping[str, tuple[int, ...]] = dict(adaptor.adapted.adapter.shapes)
        self.uplink_dims = (adaptor.config.image_dim, adaptor.config.text_dim)
        self._session = _session(adaptor)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        """One package's tensors (float32) for each request."""
        anchors, anchor_mask = padded([request.anchors for request in requests])
        queries, query_mask = padded([request.queries for request in requests])
        feed = {
            "anchors": anchors,
            "anchors_mask": anchor_mask,
            "queries": queries,
            "queries_mask": query_mask,
        }
        arrays = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        return [{name: array[place] for name, array in arrays.items()} for place in range(len(requests))]


def load_backend(folder: Path | str) -> OnnxBackend:
    """The backend of the model in `folder`. Raises ModelError where there is none."""
    return OnnxBackend(TrainedModel.load(folder))


class _Generate(nn.Module):
    """An adaptor as a function of arrays."""

    def __init__(self, adaptor: FormHypernetwork) -> None:
        super().__init__()
        self.adaptor = copy.deepcopy(adaptor)
        self.adaptor.fda.norm = _fixed(adaptor.fda.norm)  # type: ignore[assignment]
        self.base = (
            self.adaptor.adapted.replica
        )  # so the tracer knows its parameters, and makes them constants

    def forward(self, *known: Tensor) -> tuple[Tensor, ...]:
        values = self.adaptor.gated(ContextInputs(*known))
        return tuple(values[name] for name in self.adaptor.adapted.adapter.shapes)


def _fixed(norm: nn.BatchNorm1d) -> FeatureNorm:
    """What a batch norm does outside of training; it is exported only for a number of columns known there."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    fixed = FeatureNorm(norm.num_features)
    fixed.mean.copy_(norm.running_mean)
    fixed.scale.copy_((norm.running_var + norm.eps).rsqrt())
    return fixed


def _session(adaptor: FormHypernetwork) -> onnxruntime.InferenceSession:
    """A session of one thread: more would wait for each other between operations as small as these."""
    inputs: dict[str, Tensor] = {}
    for kind, dim in (("anchors", adaptor.config.image_dim), ("queries", adaptor.config.text_dim)):
        inputs |= {kind: torch.zeros(2, 3, dim), f"{kind}_mask": torch.ones(2, 3, dtype=torch.bool)}
    outputs = list(adaptor.adapted.adapter.shapes)
    axes = {name: {0: "devices", 1: name.removesuffix("_mask")} for name in inputs}
    graph = io.BytesIO()
    trace_graph(_Generate(adaptor), graph, inputs, outputs, axes | {name: {0: "devices"} for name in outputs})
    return onnx_session(graph.getvalue(), threads=1)
