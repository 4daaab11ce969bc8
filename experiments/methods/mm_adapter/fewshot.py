"""Few-shot protocol: base and new classes, shots, harmonic mean (Zhou et al., CoCoOp, CVPR 2022)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from paramcast.methods.mm_adapter.errors import FewShotError

Rounding = Literal["ceil", "floor"]


def base_new(classes: int, rounding: Rounding = "ceil") -> tuple[np.ndarray, np.ndarray]:
    """Split classes [0, classes) in their order: the first half is base, the rest is new.

    Args:
        classes: At least 2.
        rounding: Rounding of the number of base classes: `ceil` as CoOp does, or `floor`.

    Returns:
        Base and new, each a sorted int array with at least one class.
    """
    if classes < 2:
        raise FewShotError(f"{classes} class cannot be split into base and new ones; give at least 2")
    if rounding not in ("ceil", "floor"):
        raise FewShotError(f"rounding must be 'ceil' or 'floor'; got {rounding!r}")
    middle = (classes + 1) // 2 if rounding == "ceil" else classes // 2
    return np.arange(middle), np.arange(middle, classes)


def halves(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of images for shots and rows of images for the score: half of every class each.

    Args:
        y: (N,) int, classes; of an odd number of images, the extra one is for the shots.
        seed: Seed of the draw.
    """
    pool, test = [], []
    for c in np.unique(y):
        rows = np.random.default_rng([seed, int(c), 1]).permutation(np.flatnonzero(y == c))
        half = (len(rows) + 1) // 2
        pool.append(rows[:half])
        test.append(rows[half:])
    return np.concatenate(pool), np.concatenate(test)


def harmonic_mean(base: float, new: float) -> float:
    """Compute 2 b n / (b + n); 0 if either is 0."""
    return 2 * base * new / (base + new) if base > 0 and new > 0 else 0.0
