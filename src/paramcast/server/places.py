"""The fleet's map: where a context lies in two dimensions."""

from __future__ import annotations

import numpy as np

from paramcast.protocol import AdaptRequest

UNIT = 100
"""Parts of a standard deviation of the training examples: places are whole numbers of them."""

FARTHEST = 100 * UNIT


def place_of(request: AdaptRequest) -> tuple[int, int]:
    """Where the context of a request lies.

    Uplink features are whitened along the principal axes of the training data, the widest one first. On the
    map x is the mean over the request's examples of the first entry of what was seen. For a model that is
    asked something, y is that of what was asked, 0 where nothing was; for any other model, that of the second
    entry of what was seen.

    Returns:
        x and y in hundredths of a standard deviation, within 100 standard deviations.
    """
    x = _mean(request.anchors[:, 0])
    if request.queries.shape[1] > 1:
        return x, _mean(request.queries[:, 0]) if len(request.queries) else 0
    return x, _mean(request.anchors[:, 1]) if request.anchors.shape[1] > 1 else 0


def _mean(values: np.ndarray) -> int:
    """(N,) float32, N >= 1."""
    mean = float(values.mean(dtype=np.float64))
    return round(UNIT * max(-FARTHEST / UNIT, min(FARTHEST / UNIT, mean)))
