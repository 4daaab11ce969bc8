"""Positions of contexts on the fleet's map, which has two dimensions."""

from __future__ import annotations

import numpy as np

from paramcast.protocol import AdaptRequest

UNIT = 100
"""Units of a standard deviation of the training examples; positions are whole numbers of units."""

FARTHEST = 100 * UNIT


def place_of(request: AdaptRequest) -> tuple[int, int]:
    """Compute the position of a request's context on the map.

    Uplink features are whitened along the principal axes of the training data, the widest axis first. x is
    the mean of the first entry of the request's anchors. For a model with queries, y is the mean of the first
    entry of the queries, or 0 if there are none. For other models, y is the mean of the second entry of the
    anchors.

    Returns:
        x and y in hundredths of a standard deviation, within 100 standard deviations.
    """
    x = _mean(request.anchors[:, 0])
    if request.queries.shape[1] > 1:
        return x, _mean(request.queries[:, 0]) if len(request.queries) else 0
    return x, _mean(request.anchors[:, 1]) if request.anchors.shape[1] > 1 else 0


def _mean(values: np.ndarray) -> int:
    """Compute the clipped mean of values (N,) float32, N >= 1, in units."""
    mean = float(values.mean(dtype=np.float64))
    return round(UNIT * max(-FARTHEST / UNIT, min(FARTHEST / UNIT, mean)))
