"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest: else one is left for the end, and all workers but one wait for it."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, read in place; skips where it is absent (it may not be distributed)."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data are not on this machine: they may not be distributed with the repository")
    return SHARED_DATA
