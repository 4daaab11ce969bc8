"""A few-shot task with a known answer, for the tests of the Multi-Modal Adapter and of its benchmark."""

from __future__ import annotations

import numpy as np

from experiments.methods.mm_adapter.embedding import Embedded

DIM, CLASSES = 24, 6


def make_task(rows: int = 144, seed: int = 0, moved: float = 0.8) -> Embedded:
    """Make texts and images of them; the images of each class are shifted in another direction."""
    rng = np.random.default_rng(seed)
    texts = unit_rows(rng.normal(size=(CLASSES, DIM)))
    gap = moved * unit_rows(rng.normal(size=(CLASSES, DIM)))
    y = np.arange(rows) % CLASSES
    return Embedded(
        tuple("abcdef"), texts, unit_rows(texts[y] + gap[y] + 0.25 * rng.normal(size=(rows, DIM))), y
    )


def unit_rows(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled
