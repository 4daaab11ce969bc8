"""Fixtures of the device's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import make_bundle

from paramcast.protocol import SigningKey, make_key

sys.path.insert(0, str(Path(__file__).parents[1] / "artifact"))


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return make_key()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a question-answering bundle of form `full` that does not know a server's key yet."""
    return make_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def clip() -> Callable[..., np.ndarray]:
    """Return `clip(seed, frames)`, which makes frames (frames, 20, 30, 3) uint8 with a random color."""

    def make(seed: int = 0, frames: int = 4) -> np.ndarray:
        rng = np.random.default_rng(seed)
        colour = rng.integers(0, 200, 3)
        return (colour + rng.integers(0, 55, (frames, 20, 30, 3))).astype(np.uint8)

    return make
