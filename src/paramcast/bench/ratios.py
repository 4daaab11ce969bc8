"""Intervals of a ratio of two means."""

from __future__ import annotations

import numpy as np

from paramcast.training.statistics import RESAMPLES, Interval


def share_interval(part: np.ndarray, whole: np.ndarray, seed: int = 0) -> Interval:
    """mean(part) / mean(whole) and its 95 % percentile bootstrap, paired over the same streams or devices.

    Args:
        part: (N,) one figure each.
        whole: (N,) likewise; the mean should be well above zero, or the ratio says nothing.
        seed: Of the resampling.
    """
    drawn = np.random.default_rng(seed).integers(len(part), size=(RESAMPLES, len(part)))
    ratios = part[drawn].mean(1) / whole[drawn].mean(1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(float(part.mean() / whole.mean()), float(low), float(high))
