"""Which frames of a clip are read: indices only, so that nothing has to be decoded to choose them."""

from __future__ import annotations

import numpy as np

from paramcast.errors import InputError

SAMPLINGS = ("uniform", "time", "scene")
SCENE_CUT = 0.4
"""Share of the pixels that must change color (bin of `color_histogram`) for a scene to end."""


def check_sampling(count: int, sampling: str) -> None:
    """Raise InputError unless `count` frames can be taken by `sampling`."""
    if sampling not in SAMPLINGS:
        raise InputError(f"unknown sampling {sampling!r}; choose one of {', '.join(SAMPLINGS)}")
    if count < 1:
        raise InputError(f"a clip needs at least one frame, not {count}")


def uniform_indices(length: int, count: int) -> np.ndarray:
    """The centres of `count` equal segments: (min(length, count),) int, ascending, distinct."""
    count = min(length, count)
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def color_histogram(frame: np.ndarray) -> np.ndarray:
    """How the colors of a frame are spread over 64 bins (4 a channel): (64,) float32, sums to 1.

    Args:
        frame: (H, W, 3) uint8.
    """
    bins = (frame >> 6).astype(np.int64) @ np.array([16, 4, 1])
    return np.bincount(bins.ravel(), minlength=64).astype(np.float32) / np.float32(bins.size)


def scene_starts(histograms: np.ndarray) -> np.ndarray:
    """Where scenes begin: (scenes,) int, ascending, from 0.

    Args:
        histograms: (looks, 64) float32 of `color_histogram`, in order; looks >= 1.
    """
    changed = np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2
    return np.concatenate([[0], np.flatnonzero(changed > SCENE_CUT) + 1])


def scene_indices(starts: np.ndarray, length: int, count: int) -> np.ndarray:
    """Spread `count` frames over the scenes, at least one each, the rest by length.

    With more scenes than `count`, the longest scenes get one each.

    Args:
        starts: (scenes,) int, the first frame of each scene, ascending from 0.
        length: how many frames there are.
        count: how many to take, >= 1.

    Returns:
        (min(length, count),) int, ascending, distinct.
    """
    lengths = np.diff(np.append(starts, length))
    shares = np.zeros(len(starts), np.int64)
    for _ in range(min(length, count)):
        # A scene without a frame comes first (the longest of them), then the one with the longest stretch a
        # frame; a scene that is used up has no stretch left.
        stretch = np.where(shares == 0, lengths + length, lengths / np.maximum(shares, 1))
        shares[np.argmax(np.where(shares < lengths, stretch, -1))] += 1
    scenes = zip(starts, lengths.tolist(), shares.tolist(), strict=True)
    return np.concatenate([start + uniform_indices(size, share) for start, size, share in scenes if share])
