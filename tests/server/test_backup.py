"""A backup of a running service is of one moment, and fills either kind of database."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select, text
from test_migrations import ROWS
from test_state import package

from paramcast.cli.state import command
from paramcast.protocol import endorse, make_key, public_key_hex
from paramcast.server import Database, StateInputError
from paramcast.server.db import identities, published
from paramcast.server.db.backup import back_up, restore
from paramcast.server.db.ledger import record, take_sequences
from paramcast.server.db.schema import devices, metadata, packages

_HEAD = gzip.compress(b'["paramcast state", "head"]\n')


def content(url: str) -> dict[str, list[Any]]:
    database = Database.open(url)
    with database.reading() as connection:
        found = {
            name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for name, table in metadata.tables.items()
        }
    database.close()
    return found


def filled(url: str) -> Database:
    """A state with rows in every table."""
    database = Database.open(url, revision="0001")
    with database.writing() as connection:
        for statement in ROWS["0001"]:
            connection.execute(text(statement))
    database.close()
    database = Database.open(url)
    with database.writing() as connection:
        token = identities.new_enrolment(connection, None, 1, 10**12)
        identities.enrol(connection, token, "cam-2", public_key_hex(make_key()), 2)
        identities.grant(connection, "ann", "admin", 3)
        identities.add_endorsement(connection, endorse(make_key(), public_key_hex(make_key())), 4)
        for statement in (ROWS["0004"][1], ROWS["0005"][1]):
            connection.execute(text(statement))
    return database


def test_a_backup_fills_either_kind_of_database(
    new_url: Callable[[], str], postgres_server: Any, tmp_path: Path
) -> None:
    url = new_url()
    database = filled(url)
    assert all(content(url).values())
    assert back_up(database, tmp_path / "b.gz") == sum(map(len, content(url).values()))
    database.close()
    for target in (f"sqlite:///{tmp_path}/copy.db", postgres_server.new_database()):
        restore(target, tmp_path / "b.gz")
        assert content(target) == content(url)
        again = Database.open(target)
        with again.writing() as connection:
            assert take_sequences(connection, [("cam-1", 0)], 1) == [42]
            version = published.publish(
                connection, model="a" * 64, digest="d" * 64, form="codes", task="qa", share=100, now_ms=1
            ).version
        assert version == 8  # above those that were there
        again.close()
        with pytest.raises(StateInputError, match="empty"):
            restore(target, tmp_path / "b.gz")


def test_postgresql_knows_how_much_was_restored(
    new_url: Callable[[], str], postgres_server: Any, tmp_path: Path
) -> None:
    """Not knowing it, it reads whole tables for a few devices."""
    database = filled(new_url())
    back_up(database, tmp_path / "b.gz")
    database.close()
    target = postgres_server.new_database()
    restore(target, tmp_path / "b.gz")
    restored = Database.open(target)
    with restored.reading() as connection:
        known = "SELECT reltuples FROM pg_class WHERE relname = 'device_keys'"
        assert connection.exec_driver_sql(known).scalar_one() == len(content(target)["device_keys"]) > 0
    restored.close()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    new_url: Callable[[], str], tmp_path: Path
) -> None:
    url = new_url()
    old = Database.open(url, revision="0001")
    with old.writing() as connection:
        for statement in ROWS["0001"]:
            connection.execute(text(statement))
    back_up(old, tmp_path / "b.gz")
    old.close()
    target = new_url()
    restore(target, tmp_path / "b.gz")
    assert content(target) == content(url)


def test_it_is_of_one_moment(url: str, tmp_path: Path) -> None:
    """Every package that it holds is of a device whose number it has."""
    database, going = Database.open(url), threading.Event()

    def serve() -> None:
        mine = Database.open(url)
        while not going.is_set():
            with mine.writing() as connection:
                number = take_sequences(connection, [("cam-1", 0)], 1)[0]
                record(connection, [package(sequence=number)])
        mine.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for place in range(5):
            back_up(database, tmp_path / f"{place}.gz")
    finally:
        going.set()
        thread.join()
    database.close()
    for place in range(5):
        target = f"sqlite:///{tmp_path}/{place}.db"
        restore(target, tmp_path / f"{place}.gz")
        copy = Database.open(target)
        with copy.reading() as connection:
            numbers = connection.execute(select(packages.c.sequence)).scalars().all()
            highest = list(connection.execute(select(devices.c.sequence)).scalars())
            assert highest == ([max(numbers)] if numbers else [])
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
        copy.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"[]"), gzip.compress(b'["other", 1]\n'), gzip.compress(b"{"), _HEAD],
    ids=["nothing", "no gzip", "an empty list", "another format", "half an object", "no revision"],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(StateInputError, match="no complete backup"):
        restore(f"sqlite:///{tmp_path}/x.db", tmp_path / "x.gz")


def test_a_cut_backup_leaves_nothing(url: str, tmp_path: Path) -> None:
    database = filled(url)
    back_up(database, tmp_path / "b.gz")
    database.close()
    data = (tmp_path / "b.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(data[: len(data) * 2 // 3])
    target = tmp_path / "cut.db"
    with pytest.raises(StateInputError, match="no complete backup"):
        restore(target, tmp_path / "cut.gz")
    assert not any(content(str(target)).values())


@pytest.mark.parametrize(
    "row",
    [
        "[" * 100_000,
        '["devices", {"id": "x"}]',
        '["devices", ["id"]]',
        '["devices", {"id": "x", "s": 1}]',
        *(
            f'["devices", {{"id": "x", "sequence": {value}, "first_seen_at": 1, "last_seen_at": 1}}]'
            for value in ("-9223372036854775809", "9223372036854775808", "1.5", "true", '"1"', "null", "[1]")
        ),
        '["feedback", {"id": 1, "device": "x", "sequence": 1, "applied": 1, "gain": null, '
        '"reason": null, "received_at": 1}]',
    ],
)
def test_a_row_that_no_backup_has_is_refused(url: str, tmp_path: Path, row: str) -> None:
    """SQLite would keep a text as a number, and no route could read it."""
    with gzip.open(tmp_path / "x.gz", "wt") as file:
        file.write('["paramcast state", "0001"]\n' + row + "\n")
    with pytest.raises(StateInputError, match="no complete backup"):
        restore(url, tmp_path / "x.gz")
    assert not any(content(url).values())


def test_the_commands(tmp_path: Path) -> None:
    filled(f"sqlite:///{tmp_path}/a.db").close()

    def run(*words: object) -> str:
        return CliRunner().invoke(command, list(map(str, words)), catch_exceptions=False).output

    assert "schema 0005" in run("upgrade", "--state", tmp_path / "a.db")
    assert "rows are in" in run("backup", tmp_path / "b.gz", "--state", tmp_path / "a.db")
    assert "restored" in run(
        "restore", tmp_path / "b.gz", "--state", tmp_path / "c.db", "--journal", tmp_path / "a.journal"
    )
    assert content(f"{tmp_path}/c.db") == content(f"{tmp_path}/a.db")
