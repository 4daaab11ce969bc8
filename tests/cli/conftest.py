"""Fixtures for the tests of the command line, on a tiny generated world."""

from __future__ import annotations

import pytest
from commands import Run, run_paramcast
from tiny import everyones, model, trained, world

__all__ = ["everyones", "model", "trained", "world"]


@pytest.fixture(scope="session")
def run() -> Run:
    return run_paramcast
