"""Intervals of a ratio of two means."""

from __future__ import annotations

import numpy as np

from paramcast.training.statistics import RESAMPLES, Interval, interval


def share_interval(part: np.ndarray, whole: np.ndarray, seed: int = 0) -> Interval | None:
    """Compute mean(part) / mean(whole) and its 95 % percentile bootstrap, paired over streams or devices.

    Args:
        part: (N,) one value for each stream or device.
        whole: (N,) one value for each stream or device.
        seed: Seed of the resampling.

    Returns:
        None where the interval of mean(whole) is not above zero, since there is no share of zero.
    """
    if interval(whole, seed).low <= 0:
        return None
    drawn = np.random.default_rng(seed).integers(len(part), size=(RESAMPLES, len(part)))
    parts, wholes = part[drawn].mean(1), whole[drawn].mean(1)
    low, high = np.percentile(parts[wholes > 0] / wholes[wholes > 0], [2.5, 97.5])
    return Interval(float(part.mean() / whole.mean()), float(low), float(high))
