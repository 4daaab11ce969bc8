"""Recall of rankings that may have ties: evaluation and devices report the expected value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TIE = 1e-6
"""Cosines that differ by less count as equal: one clip in two rows of a batch differs by rounding."""


def expected_recall(scores: np.ndarray, right: np.ndarray, ranks: Sequence[int]) -> dict[int, float]:
    """Compute the share of texts whose clip is among the best k, in percent.

    Clips with equal scores are in random order, so that a text counts with the probability that its clip is
    among the best k. A model that gives all clips the same score has the recall of random guessing.

    Args:
        scores: (N, G), scores of N texts against G clips; scores that are not finite are the worst.
        right: (N,) int, the clip of each text.
        ranks: The values of k.

    Returns:
        k -> percent.
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    own = scores[np.arange(len(scores)), right][:, None]
    with np.errstate(invalid="ignore"):  # -inf against -inf
        equal = (np.abs(scores - own) <= TIE) | (scores == own)
    better = ((scores > own) & ~equal).sum(1)
    ties = equal.sum(1)
    return {k: 100 * float(np.clip((k - better) / ties, 0, 1).mean()) for k in ranks}
