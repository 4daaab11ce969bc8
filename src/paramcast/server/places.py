"""The fleet's map: where a context lies in two dimensions."""

from __future__ import annotations

import numpy as np

from paramcast.protocol import AdaptRequest

UNIT = 100
"""Parts of a standard deviation of the training clips: places are whole numbers of them."""

FARTHEST = 100 * UNIT


def place_of(request: AdaptRequest) -> tuple[int, int]:
    """Where the context of a request lies.

    Uplink features are whitened along the principal axes of the training clips, the widest one first. On the
    map x is the mean over the request's clips of the first entry of what was seen, y that of what was asked;
    0 where nothing was asked.

    Returns:
        x and y in hundredths of a standard deviation, within 100 standard deviations.
    """
    return _mean(request.anchors), _mean(request.queries) if len(request.queries) else 0


def _mean(features: np.ndarray) -> int:
    """(N, U) float32, N >= 1."""
    mean = float(features[:, 0].mean(dtype=np.float64))
    return round(UNIT * max(-FARTHEST / UNIT, min(FARTHEST / UNIT, mean)))
