"""Marginal alignment: every domain maps each of its features to a common scale by itself, in O(N log N).

In one dimension optimal transport is the map between quantiles. Mapping each feature's quantiles to those of
N(0, 1) therefore moves every domain to the same marginals before any coupling is computed, without an
exchange of data.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import ndtri

from paramcast.methods.cmda_ot.errors import FederationInputError

Alignment = Literal["none", "moments", "quantiles"]
ALIGNMENTS: tuple[Alignment, ...] = ("none", "moments", "quantiles")

FURTHEST = 10.0


class CommonScale:
    """The target's units for every domain: mean 0, deviation 1, at most `FURTHEST` deviations away.

    The shift between domains is not removed; the transport needs it.

    Args:
        target: (N, D) float64.
    """

    def __init__(self, target: np.ndarray) -> None:
        self._mean, self._scale = target.mean(0), target.std(0)
        self._constant = self._scale <= 1e-12 * np.maximum(np.abs(self._mean), 1e-300)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Scale (M, D) float64 -> (M, D) float64; 0 where the target is constant."""
        scaled = (samples - self._mean) / np.where(self._constant, np.inf, self._scale)
        bounded: np.ndarray = np.clip(scaled, -FURTHEST, FURTHEST)
        return bounded


class Aligner:
    """Maps samples of one domain to the common scale.

    Args:
        kind: `none`; `moments`, mean 0 and standard deviation 1; `quantiles`, normal scores of mid-ranks, so
            that equal values stay equal. `moments` and `quantiles` map a constant feature to 0.
        samples: (N, D) float64, the domain's samples.
    """

    def __init__(self, kind: Alignment, samples: np.ndarray) -> None:
        if kind not in ALIGNMENTS:
            raise FederationInputError(f"alignment must be one of {', '.join(ALIGNMENTS)}; got {kind!r}")
        self.kind = kind
        self._mean, self._scale = samples.mean(0), samples.std(0)
        # Rounding errors of the mean give a constant feature a tiny deviation.
        self._scale[self._scale <= 1e-12 * np.abs(self._mean)] = np.inf
        self._sorted = np.sort(samples, axis=0) if kind == "quantiles" else np.empty((0, 0))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Map (M, D) float64 -> (M, D) float64; unseen values stay in the range of the domain's scores."""
        if self.kind == "none":
            return samples
        if self.kind == "moments":
            scaled: np.ndarray = (samples - self._mean) / self._scale
            return scaled
        return np.stack(
            [self._scores(*column) for column in zip(samples.T, self._sorted.T, strict=True)], axis=1
        )

    @staticmethod
    def _scores(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        ranks = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / 2
        margin = 0.5 / len(known)
        scores: np.ndarray = ndtri(np.clip(ranks / len(known), margin, 1 - margin))
        return scores
