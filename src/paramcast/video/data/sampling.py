"""Choose the frames of a clip that are read. All functions work on indices, so that nothing is decoded."""

from __future__ import annotations

import numpy as np

from paramcast.errors import InputError

SAMPLINGS = ("uniform", "time", "scene")
SCENE_CUT = 0.4
"""A new scene starts where more than this share of the pixels changes its bin of `color_histogram`."""


def check_sampling(count: int, sampling: str) -> None:
    """Check that `sampling` is known and `count` is positive; raise InputError otherwise."""
    if sampling not in SAMPLINGS:
        raise InputError(f"unknown sampling {sampling!r}; choose one of {', '.join(SAMPLINGS)}")
    if count < 1:
        raise InputError(f"a clip needs at least one frame, not {count}")


def uniform_indices(length: int, count: int) -> np.ndarray:
    """Compute the centers of `count` equal segments: (min(length, count),) int, ascending, distinct."""
    count = min(length, count)
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def color_histogram(frame: np.ndarray) -> np.ndarray:
    """Compute the color histogram of a frame with 64 bins (4 per channel): (64,) float32, sums to 1.

    Args:
        frame: (H, W, 3) uint8.
    """
    bins = (frame >> 6).astype(np.int64) @ np.array([16, 4, 1])
    return np.bincount(bins.ravel(), minlength=64).astype(np.float32) / np.float32(bins.size)


def scene_starts(histograms: np.ndarray) -> np.ndarray:
    """Find the first frames of the scenes: (scenes,) int, ascending, from 0.

    Args:
        histograms: (looks, 64) float32 of `color_histogram`, one for each frame, in order; looks >= 1.
    """
    changed = np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2
    return np.concatenate([[0], np.flatnonzero(changed > SCENE_CUT) + 1])


def scene_indices(starts: np.ndarray, length: int, count: int) -> np.ndarray:
    """Distribute `count` frames over the scenes: at least one for each scene, the rest by length.

    With more scenes than `count`, only the longest scenes get a frame.

    Args:
        starts: (scenes,) int, the first frame of each scene, ascending from 0.
        length: number of frames of the clip.
        count: number of frames to choose, >= 1.

    Returns:
        (min(length, count),) int, ascending, distinct.
    """
    lengths = np.diff(np.append(starts, length))
    shares = np.zeros(len(starts), np.int64)
    for _ in range(min(length, count)):
        # The longest scene without a frame comes first, then the scene with the most frames per chosen
        # frame. A scene with all its frames chosen gets no more.
        stretch = np.where(shares == 0, lengths + length, lengths / np.maximum(shares, 1))
        shares[np.argmax(np.where(shares < lengths, stretch, -1))] += 1
    scenes = zip(starts, lengths.tolist(), shares.tolist(), strict=True)
    return np.concatenate([start + uniform_indices(size, share) for start, size, share in scenes if share])
