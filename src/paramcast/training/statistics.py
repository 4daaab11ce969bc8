"""Intervals over devices."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def json(self) -> dict[str, float]:
        """For the results file, to 4 decimals."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over devices.

    Pass differences of two systems on the same devices for a paired interval.

    Args:
        values: (N,) one figure a device, N >= 1.
        seed: Of the resampling; the same seed resamples the same devices.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
