"""Intervals: paired bootstrap over devices, Student's t over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000
FEW = 10
"""With at most this number of values, Student's t is used. A bootstrap interval of nominally 95 % covers 74 %
at 3 values and 84 % at 5."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def json(self) -> dict[str, float]:
        """Return the values for a results file, to 4 decimals."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Compute the mean over devices and its interval: bootstrap percentiles, or Student's t for few values.

    Pass differences of two systems on the same devices for a paired interval.

    Args:
        values: (N,) one value per device, N >= 1.
        seed: Seed of the resampling; the same seed resamples the same devices.
    """
    if len(values) <= FEW:
        return over_seeds(values)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def over_seeds(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Compute the mean of a few values, such as one per seed, and its interval by Student's t.

    Args:
        values: (N,), N >= 1. The interval of a single value has length 0.
        confidence: Share of cases in which the interval holds the true mean.
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, mean, mean)
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)
