"""From every schema that there was to the newest one, with rows in it, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from paramcast.server import Database
from paramcast.server.db.ledger import issued_to, take_sequences
from paramcast.server.db.schema import metadata

# What a service of that schema had written.
ROWS = {
    "0001": [
        "INSERT INTO devices (id, sequence, first_seen_at, last_seen_at) VALUES ('cam-1', 41, 1, 2)",
        "INSERT INTO models (version, model, digest, form, task, share, published_at)"
        f" VALUES (7, '{'a' * 64}', '{'d' * 64}', 'codes', 'qa', 100, 5)",
        "INSERT INTO packages (device, sequence, model, version, form, context, clips, queries, bytes,"
        f" latency_us, issued_at, expires_at) VALUES ('cam-1', 41, '{'a' * 64}', 7, 'codes', '{'c' * 32}',"
        " 8, 8, 417, 900, 10, 20)",
        "INSERT INTO feedback (device, sequence, applied, gain, received_at)"
        " VALUES ('cam-1', 41, TRUE, 1.5, 30)",
    ],
    "0002": [
        "INSERT INTO devices (id, sequence, first_seen_at, last_seen_at, signed_at, spent_until)"
        " VALUES ('cam-1', 41, 1, 2, 3, 4)",
        f"INSERT INTO device_keys (public_key, device, added_at) VALUES ('{'e' * 64}', 'cam-1', 1)",
    ],
    "0003": [
        "INSERT INTO devices (id, sequence, first_seen_at, last_seen_at, model, x, y)"
        f" VALUES ('cam-1', 41, 1, 2, '{'a' * 64}', -40, 125)",
    ],
    "0004": [
        "INSERT INTO devices (id, sequence, first_seen_at, last_seen_at) VALUES ('cam-1', 41, 1, 2)",
        f"INSERT INTO recalls (model, number, since, to_base) VALUES ('{'a' * 64}', 7, 5, FALSE)",
    ],
    "0005": [
        "INSERT INTO devices (id, sequence, first_seen_at, last_seen_at) VALUES ('cam-1', 41, 1, 2)",
        "INSERT INTO events (at, who, what, device, about) VALUES (6, 'ann', 'revoke', 'cam-1', '')",
    ],
}


def test_every_schema_is_here() -> None:
    names = [entry.name for entry in files("paramcast.server.db.migrations.versions").iterdir()]
    assert sorted(name[1:5] for name in names if name.startswith("v")) == sorted(ROWS)


@pytest.mark.parametrize("revision", ROWS)
def test_nothing_is_lost_on_the_way_to_the_newest(new_url: Callable[[], str], revision: str) -> None:
    url = new_url()
    old = Database.open(url, revision=revision)
    assert old.revision() == revision
    with old.writing() as connection:
        for statement in ROWS[revision]:
            connection.execute(text(statement))
    old.close()
    new = Database.open(url)
    with new.writing() as connection:
        assert take_sequences(connection, [("cam-1", 0)], 1) == [42]
        if revision == "0001":
            assert [(row["sequence"], row["version"]) for row in issued_to(connection, "cam-1")] == [(41, 7)]
    with new.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    new.close()
    Database.open(url).close()  # and again


def test_a_migration_that_fails_changes_nothing(
    new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from paramcast.server.db.migrations.versions import v0002_identity as step

    url = new_url()
    Database.open(url, revision="0001").close()
    real = step.op.create_index

    def fails(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("alembic.op.create_index", fails)
    with pytest.raises(RuntimeError):
        Database.open(url)
    monkeypatch.setattr("alembic.op.create_index", real)
    new = Database.open(url)
    with new.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    new.close()
