"""Fixtures for the tests of experiments, taken from the tests of the parts that they measure."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from paramcast.video.data.collection import Collection

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / folder) for folder in ("cli", "server", "methods")]

from commands import Run, run_paramcast  # noqa: E402
from states import new_url, postgres_server, url  # noqa: E402
from tiny import everyones, model, shared_world, trained, world  # noqa: E402

__all__ = ["everyones", "model", "new_url", "postgres_server", "trained", "url", "world"]


@pytest.fixture(scope="session")
def small(everyones: Path) -> Collection:
    """Make the collection of the tests that train retrieval models of their own."""
    return Collection.open(shared_world(everyones, "small", 80))


@pytest.fixture(scope="session")
def run() -> Run:
    """Return a function that runs an experiment in a separate process, as users do."""
    return partial(run_paramcast, python=("-m", "experiments"))
