"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort slow tests to the front: otherwise all workers but one wait at the end for a slow test."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data; skip where it is absent, because it may not be distributed."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data are not on this machine: they may not be distributed with the repository")
    return SHARED_DATA
