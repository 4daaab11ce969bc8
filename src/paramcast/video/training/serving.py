"""Data of a trained model that a server needs."""

from __future__ import annotations

from typing import Protocol

from paramcast.artifact.hypernetwork_graph import hypernetwork_graph
from paramcast.artifact.server_read import OnnxHypernetwork, ServerSide
from paramcast.hypernet.forms import FormHypernetwork


class ServedConfig(Protocol):
    """Properties of a model that the service shows."""

    @property
    def task(self) -> str:
        """Name of the task."""


class Served(Protocol):
    """Interface of a model for which updates can be served, such as a `TrainedModel`."""

    @property
    def config(self) -> ServedConfig:
        """Properties of the model."""

    @property
    def adaptor(self) -> FormHypernetwork:
        """The hypernetwork that serves devices."""

    def sha256(self) -> str:
        """Compute the hash (hex) of the model to which updates belong."""


def server_side(trained: Served) -> ServerSide:
    """Make the data of a server: the hypernetwork as a graph, gate included."""
    adaptor = trained.adaptor.eval()
    shapes = dict(adaptor.adapted.adapter.shapes)
    dims = (adaptor.config.image_dim, adaptor.config.text_dim)
    return ServerSide(
        model=trained.sha256(),
        adapter=adaptor.form,
        task=trained.config.task,
        parameters=shapes,
        uplink_dims=dims,
        graph=hypernetwork_graph(adaptor, shapes, dims),
    )


class OnnxBackend(OnnxHypernetwork):
    """Generates updates like a service with the artifact, but in the process that holds the trained model."""

    def __init__(self, trained: Served) -> None:
        super().__init__(server_side(trained))
