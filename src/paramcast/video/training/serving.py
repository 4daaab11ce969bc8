"""What a server needs of a trained model."""

from __future__ import annotations

from typing import Protocol

from paramcast.artifact.hypernetwork_graph import hypernetwork_graph
from paramcast.artifact.server_read import OnnxHypernetwork, ServerSide
from paramcast.hypernet.forms import FormHypernetwork


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


def server_side(trained: Served) -> ServerSide:
    """What a server needs of a trained model: its hypernetwork, gate included, as a graph."""
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
    """The same as a service makes of the artifact, in the process that holds the trained model."""

    def __init__(self, trained: Served) -> None:
        super().__init__(server_side(trained))
