"""Interface of a model in the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from paramcast.protocol import AdaptRequest


class AdaptBackend(Protocol):
    """Interface of a model in the service. `generate` is never called by two threads at once.

    Attributes:
        model: sha256 of the base model, 64 lower-case hex digits.
        form: Name of the adapter.
        task: The user's name for the task of the model.
        parameters: The shape of every tensor that `generate` makes, by name.
        uplink_dims: Columns of a request's anchors and of its queries.
    """

    model: str
    form: str
    task: str
    parameters: Mapping[str, tuple[int, ...]]
    uplink_dims: tuple[int, int]

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        """Generate one dictionary of float32 tensors for each request, in order; queries may be absent."""
        ...
