"""Fixtures for the tests of training, and one thread for torch.

The tensors are small, and tests share their cores with other work.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from paramcast.video.world import make_world

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from tiny import everyones

__all__ = ["everyones"]

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(everyones: Path) -> Path:
    """Make the collection that all of pytest's workers train on."""
    folder = everyones / "trained-on"
    with FileLock(everyones / "trained-on.lock"):
        if not folder.exists():
            make_world(folder, clips=36)
    return folder
