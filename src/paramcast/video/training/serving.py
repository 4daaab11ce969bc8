"""What the cloud service needs of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from paramcast import __version__
from paramcast.artifact.generate import Generator
from paramcast.artifact.hypernetwork_graph import hypernetwork_graph
from paramcast.artifact.read import ServerArtifact
from paramcast.hypernet import Hypernetwork
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
    def adaptor(self) -> Hypernetwork:
        """The adaptor that serves devices."""

    def sha256(self) -> str:
        """Hex digest of all that a package belongs to."""


class OnnxBackend(Generator):
    """Generates for a model that lies in memory: the graph that `export` would write, without the folder."""

    def __init__(self, trained: Served) -> None:
        adaptor = trained.adaptor.eval()
        shapes = dict(adaptor.dynamic.shapes)
        dims = (adaptor.config.image_dim, adaptor.config.text_dim)
        super().__init__(
            ServerArtifact(
                path=Path(),
                model=trained.sha256(),
                adapter=adaptor.config.form,
                task=trained.config.task,
                parameters=shapes,
                uplink_dims=dims,
                version=__version__,
                graph=hypernetwork_graph(adaptor, shapes, dims),
            )
        )


def load_backend(folder: Path | str) -> OnnxBackend:
    """The backend of the model in `folder`. Raises ModelError where there is none."""
    return OnnxBackend(TrainedModel.load(folder))
