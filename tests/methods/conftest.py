"""Fixtures for the tests of methods: a tiny background for every task."""

from __future__ import annotations

import pytest
from fleets import TASKS, tiny_background, tiny_collection, tiny_model

from paramcast.methods.background import Background


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Background]:
    return {
        task: tiny_background(tiny_model(task), tiny_collection(tmp_path_factory.mktemp(task)))
        for task in TASKS
    }
