"""The state's contract, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from paramcast.server import Database, StateError, StateInputError
from paramcast.server.db import published
from paramcast.server.db.ledger import Issued, issued_to, prune, record, take_sequences
from paramcast.server.db.schema import devices, metadata, packages


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


def taken(database: Database, *asked: tuple[str, int], now: int = 1) -> list[int]:
    with database.writing() as connection:
        return take_sequences(connection, asked, now)


def package(device: str = "cam-1", sequence: int = 1, **changes: Any) -> Issued:
    fields: dict[str, Any] = {
        "device": device,
        "sequence": sequence,
        "model": "a" * 64,
        "version": None,
        "form": "codes",
        "context": "c" * 32,
        "clips": 8,
        "queries": 8,
        "bytes": 417,
        "latency_us": 900,
        "issued_at": 10,
        "expires_at": 20,
        "request_bytes": 2368,
    }
    return Issued(**(fields | changes))


def test_numbers_grow_for_each_device_above_what_it_reports(database: Database) -> None:
    assert [taken(database, ("a", 0)) for _ in range(3)] == [[1], [2], [3]]
    assert taken(database, ("b", 0), ("a", 10), ("c", 5)) == [1, 11, 6]
    assert taken(database, ("a", 2)) == [12]


def test_a_device_twice_in_a_batch_gets_two_numbers(database: Database) -> None:
    assert taken(database, ("a", 0), ("b", 7), ("a", 4), ("a", 0)) == [5, 8, 6, 7]
    assert taken(database, ("a", 0), ("a", 0)) == [8, 9]
    assert taken(database) == []


def test_numbers_do_not_go_back_after_a_restart(url: str) -> None:
    for expected in (1, 2, 3):
        opened = Database.open(url)
        assert taken(opened, ("cam-1", 0)) == [expected]
        opened.close()


def test_what_is_not_committed_was_never_given(database: Database) -> None:
    with contextlib.suppress(RuntimeError), database.writing() as connection:
        assert take_sequences(connection, [("a", 0)], 1) == [1]
        raise RuntimeError
    assert taken(database, ("a", 0)) == [1]


def test_services_that_start_in_one_moment_all_open_a_new_state(new_url: Callable[[], str]) -> None:
    for url in [new_url() for _ in range(10)]:
        begin, opened = threading.Barrier(3), list[Database]()

        def start(url: str = url, begin: threading.Barrier = begin, opened: list[Database] = opened) -> None:
            begin.wait()
            opened.append(Database.open(url))

        threads = [threading.Thread(target=start) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened) == 3
        for database in opened:
            database.close()


def test_two_services_on_one_state_never_give_a_number_twice(url: str) -> None:
    found: list[int] = []

    def serve(names: list[str]) -> None:
        mine = Database.open(url)
        for _ in range(25):
            numbers = taken(mine, *[(name, 0) for name in names])
            found.append(numbers[names.index("a")])
        mine.close()

    threads = [threading.Thread(target=serve, args=(names,)) for names in (["a", "b", "c"], ["c", "b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 51))


def test_a_device_is_known_from_its_first_to_its_last_request(database: Database) -> None:
    for now in (5, 9):
        taken(database, ("a", 0), now=now)
    with database.reading() as connection:
        assert [tuple(row)[:4] for row in connection.execute(select(devices))] == [("a", 2, 5, 9)]


def test_packages_are_kept_and_a_number_given_twice_is_an_error(database: Database) -> None:
    with database.writing() as connection:
        record(connection, [package(sequence=number) for number in (1, 2, 3)])
        record(connection, [])
    with database.reading() as connection:
        assert [row["sequence"] for row in issued_to(connection, "cam-1", last=2)] == [3, 2]
        assert issued_to(connection, "cam-1")[2] == {**vars(package()), "x": None, "y": None}
        assert issued_to(connection, "cam-2") == []
    with pytest.raises(StateError), database.writing() as connection:
        record(connection, [package(sequence=3)])


def test_old_records_go_and_numbers_stay(database: Database) -> None:
    taken(database, ("cam-1", 0), ("cam-1", 0))
    with database.writing() as connection:
        record(connection, [package(sequence=1, issued_at=10), package(sequence=2, issued_at=30)])
    with database.writing() as connection:
        assert prune(connection, 20) == 1
        assert prune(connection, 20) == 0
    with database.reading() as connection:
        assert [row["sequence"] for row in issued_to(connection, "cam-1")] == [2]
    assert taken(database, ("cam-1", 0)) == [3]


def put(database: Database, share: int = 100, model: str = "a" * 64, digest: str = "d" * 64) -> int:
    with database.writing() as connection:
        return published.publish(
            connection, model=model, digest=digest, form="codes", task="qa", share=share, now_ms=1
        ).version


def serving(database: Database) -> list[int]:
    with database.reading() as connection:
        return [version.version for version in published.in_service(connection)]


def back(database: Database, model: str | None = None) -> int:
    with database.writing() as connection:
        return published.withdraw(connection, model, 2)[0].version


def test_models_are_published_in_turn_and_rolled_back(database: Database) -> None:
    first = put(database, digest="1" * 64)
    canary, second = put(database, share=10), put(database, digest="2" * 64)
    assert serving(database) == [second]
    assert back(database) == second
    assert serving(database) == [canary, first]
    assert back(database) == canary
    assert serving(database) == [first]
    with pytest.raises(StateInputError, match="no version with other files"):
        back(database)
    with database.reading() as connection:
        assert [version.version for version in published.all_versions(connection)] == [second, canary, first]


def test_several_models_are_in_service_at_once(database: Database) -> None:
    first, other = put(database), put(database, model="b" * 64)
    assert serving(database) == [other, first]
    put(database, model="b" * 64, digest="e" * 64)
    with pytest.raises(StateInputError, match="name the base model"):
        back(database)
    back(database, "bbb")
    assert serving(database) == [other, first]


@pytest.mark.parametrize("share", [0, 101, 10])
def test_a_first_version_is_for_all_devices(database: Database, share: int) -> None:
    with pytest.raises(StateInputError, match="share"):
        put(database, share=share)
    assert serving(database) == []


@settings(max_examples=50)
@given(st.integers(1, 99), st.text(max_size=20))
def test_a_growing_share_keeps_its_devices(share: int, device: str) -> None:
    def served(percent: int) -> bool:
        return published.serves(published.ModelVersion(1, "a" * 64, "", "", "", percent, 0), device)

    assert served(share) <= served(share + 1)
    assert served(100)


def test_a_share_is_that_share_of_the_devices() -> None:
    canary = published.ModelVersion(1, "a" * 64, "", "", "", 20, 0)
    assert 0.17 < sum(published.serves(canary, f"cam-{number}") for number in range(4000)) / 4000 < 0.23


def test_the_migrations_make_the_schema_that_the_code_has(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_newer_schema_is_refused(url: str) -> None:
    opened = Database.open(url)
    with opened.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    opened.close()
    with pytest.raises(StateInputError, match="upgrade paramcast"):
        Database.open(url)


def test_services_that_start_together_migrate_once(url: str) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Database.open(url).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


KILLED = """
import os, signal, sys
from paramcast.server import Database
from paramcast.server.db.ledger import take_sequences
database = Database.open(sys.argv[1])
while True:
    with database.writing() as connection:
        numbers = take_sequences(connection, [("cam-1", 0)] * 3, 1)
    print(*numbers, flush=True)  # has left the house
"""


def test_a_killed_process_gives_no_number_twice(url: str) -> None:
    last = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20)]
        process.kill()
        lines += process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        numbers = [int(number) for line in lines if line.count(" ") == 2 for number in line.split()]
        assert numbers[0] > last
        assert numbers == sorted(set(numbers))
        last = numbers[-1]


@pytest.mark.parametrize(
    "where", ["mysql://host/name", "sqlite://", "://", "postgresql://cloud:secret@127.0.0.1:1/none"]
)
def test_what_is_no_database_is_told_without_its_password(where: str) -> None:
    with pytest.raises((StateInputError, StateError)) as caught:
        Database.open(where)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, though long enough to be looked at" * 100)
    with pytest.raises(StateError, match=r"x\.db"):
        Database.open(tmp_path / "x.db")


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)  # SQLite has no server that could go
def test_a_database_that_comes_back_is_used_again(new_url: Callable[[], str], postgres_server: Any) -> None:
    opened, server = Database.open(new_url()), postgres_server
    assert taken(opened, ("a", 0)) == [1]
    server.stop()
    with pytest.raises(StateError):
        taken(opened, ("a", 0))
    server.start()
    assert taken(opened, ("a", 0)) == [2]
    opened.close()


def test_a_temporary_state_goes_with_its_owner() -> None:
    database = Database.temporary()
    folder = Path(str(database.engine.url.database)).parent
    taken(database, ("a", 0))
    assert folder.exists()
    del database
    assert not folder.exists()


def test_the_ledger_counts_what_there_is(database: Database) -> None:
    with database.writing() as connection:
        record(connection, [package(f"cam-{number}") for number in range(100)])
    with database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(packages)).scalar() == 100
