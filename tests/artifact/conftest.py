"""Worlds that several tests look at, and helpers of other parts' tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

for part in ("adapters", "device"):
    sys.path.insert(0, str(Path(__file__).parents[1] / part))
sys.path.insert(0, str(Path(__file__).parent))

from worlds import World, make_world

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def conv(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A convolutional network's artifact; tests that change files copy it."""
    return make_world(tmp_path_factory.mktemp("conv") / "artifact", "conv")
