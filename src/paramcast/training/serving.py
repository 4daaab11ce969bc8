"""What the cloud service needs of a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from paramcast.adaptor.context import ContextInputs
from paramcast.training.model import TrainedModel
from paramcast.wire import AdaptRequest


class TorchBackend:
    """Generates with torch: all requests of a call in one batch. Satisfies `paramcast.cloud.AdaptBackend`.

    Attributes:
        model: sha256 hex of the base model that the packages are for.
        form: Of the generated parameters.
        task: 'qa', 'choice' or 'retrieval'.
        parameters: Package tensor -> its shape.
        uplink_dims: Lengths of an anchor's and of a query's uplink feature.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self._adaptor = trained.adaptor.eval()
        self.model = trained.sha256()
        self.form, self.task = trained.config.form, trained.config.task
        self.parameters = dict(self._adaptor.dynamic.shapes)
        self.uplink_dims = (trained.image_uplink.matrix.shape[1], trained.text_uplink.matrix.shape[1])

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        """One package's tensors (float32) for each request."""
        with torch.inference_mode():
            values, _ = self._adaptor(_inputs(requests))
        arrays = {name: tensor.numpy() for name, tensor in values.items()}
        return [{name: array[place] for name, array in arrays.items()} for place in range(len(requests))]


def load_backend(folder: Path | str) -> TorchBackend:
    """The backend of the model in `folder`. Raises ModelError where there is none."""
    return TorchBackend(TrainedModel.load(folder))


def _inputs(requests: list[AdaptRequest]) -> ContextInputs:
    anchors, anchor_mask = _padded([request.anchors for request in requests])
    queries, query_mask = _padded([request.queries for request in requests])
    return ContextInputs(anchors, anchor_mask, queries, query_mask)


def _padded(rows: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(1, *(len(row) for row in rows))
    values = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    mask = np.zeros((len(rows), longest), bool)
    for place, row in enumerate(rows):
        values[place, : len(row)], mask[place, : len(row)] = row, True
    return torch.from_numpy(values), torch.from_numpy(mask)
