"""Fixtures for several tests, and paths to the helpers of other tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from worlds import World

for part in ("adapters", "device"):
    sys.path.insert(0, str(Path(__file__).parents[1] / part))
sys.path.insert(0, str(Path(__file__).parent))

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def conv(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make the artifact of a convolutional network; tests that change files must copy it."""
    from worlds import make_world

    return make_world(tmp_path_factory.mktemp("conv") / "artifact", "conv")
