"""Fixtures for the tests of training, and one thread for torch.

The tensors are small, and tests share their cores with other work.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from tiny import everyones, shared_world

__all__ = ["everyones"]

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(everyones: Path) -> Path:
    """Make the collection that all of pytest's workers train on."""
    return shared_world(everyones, "trained-on", 36)
