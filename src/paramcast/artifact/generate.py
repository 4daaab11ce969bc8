"""What a server runs of an artifact: the hypernetwork in ONNX Runtime, many requests in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.read import ServerArtifact, read_server
from paramcast.protocol import AdaptRequest


class Generator:
    """Generates updates; what the server calls an `AdaptBackend`.

    Attributes:
        model: sha256 hex of what the updates are for.
        form: Name of the adapter.
        task: What the model does.
        parameters: Tensor of an update -> its shape.
        uplink_dims: Columns of a request's anchors and of its queries.
    """

    def __init__(self, artifact: ServerArtifact) -> None:
        """Open the hypernetwork of `artifact`.

        Raises:
            ArtifactError: ONNX Runtime refuses the graph.
        """
        self.model, self.form, self.task = artifact.model, artifact.adapter, artifact.task
        self.parameters: Mapping[str, tuple[int, ...]] = artifact.parameters
        self.uplink_dims = artifact.uplink_dims
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = (
            1  # more would wait for each other between operations as small as these
        )
        try:
            self._session = onnxruntime.InferenceSession(
                artifact.graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise ArtifactError(f"{artifact.path}: ONNX Runtime refuses the hypernetwork: {error}") from error
        self._inputs = {node.name for node in self._session.get_inputs()}

    @classmethod
    def load(cls, folder: Path | str) -> Generator:
        """Open the server's half of an artifact. Raises ArtifactError where there is none."""
        return cls(read_server(folder))

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        """Return the tensors (float32) of one update for each request, in order."""
        anchors, anchors_mask = padded([request.anchors for request in requests])
        queries, queries_mask = padded([request.queries for request in requests])
        known = {
            "anchors": anchors,
            "anchors_mask": anchors_mask,
            "queries": queries,
            "queries_mask": queries_mask,
        }
        feed = {name: value for name, value in known.items() if name in self._inputs}
        names = list(self.parameters)
        arrays = dict(zip(names, self._session.run(names, feed), strict=True))
        return [{name: array[place] for name, array in arrays.items()} for place in range(len(requests))]


def padded(sets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Put sets of unlike size side by side.

    Args:
        sets: B arrays (K, U), each with a K of its own.

    Returns:
        (B, longest, U) float32, zero where a set has ended, and a mask (B, longest) bool; longest >= 1.
    """
    longest = max(1, *(len(rows) for rows in sets))
    values = np.zeros((len(sets), longest, sets[0].shape[1]), np.float32)
    mask = np.zeros((len(sets), longest), bool)
    for place, rows in enumerate(sets):
        values[place, : len(rows)], mask[place, : len(rows)] = rows, True
    return values, mask
