"""What is broken in a state is named with its cure, by the command and by the service that runs on it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from backends import TinyBackend
from click.testing import CliRunner
from sqlalchemy import Connection, text, update
from test_state import package

from paramcast.cli import paramcast
from paramcast.protocol import endorse, make_key, public_key_hex
from paramcast.server import Database, ModelStore, StateInputError, create_app
from paramcast.server.db import identities, published
from paramcast.server.db.integrity import check, look
from paramcast.server.db.ledger import record, take_sequences
from paramcast.server.db.schema import device_keys, devices, endorsements, enrolments, models, operators
from paramcast.server.inspection import EVERY_S, LATEST_S, Inspection
from paramcast.server.metrics import Metrics

MODEL, NOW_MS = "a" * 64, 1_000_000
Break = Callable[[Connection], object]


@pytest.fixture
def database(url: str, tmp_path: Path) -> Iterator[Database]:
    """A state with a little of everything, and a published model in the folder `models`."""
    database = Database.open(url)
    keys = [make_key() for _ in range(3)]
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "weights").write_bytes(b"numbers")
    digest = ModelStore(tmp_path / "models").add(artifact)
    with database.writing() as connection:
        for name in ("cam-1", "cam-2"):
            token = identities.new_enrolment(connection, name, NOW_MS, 1000)
            identities.enrol(connection, token, name, public_key_hex(make_key()), NOW_MS)
        number = public_key_hex(make_key())
        identities.rotate(connection, "cam-1", newest(connection, "cam-1"), number, NOW_MS)
        identities.new_enrolment(connection, None, NOW_MS, 1000)
        identities.grant(connection, "ann", "admin", NOW_MS)
        for old, new in pairwise(keys):
            identities.add_endorsement(connection, endorse(old, public_key_hex(new)), NOW_MS)
        take_sequences(connection, [("cam-1", 0), ("open-1", 6)], NOW_MS)
        record(connection, [package("cam-1", 1), package("open-1", 7)])
        published.publish(
            connection, model=MODEL, digest=digest, form="full", task="qa", share=100, now_ms=NOW_MS
        )
    yield database
    database.close()


def newest(connection: Connection, device: str) -> str:
    return identities.known(connection, [device], NOW_MS)[device].keys[0]


def found(database: Database, tmp_path: Path) -> list[str]:
    return [f"{fault.what}. {fault.cure}" for fault in check(database, ModelStore(tmp_path / "models"))]


def test_a_sound_state_has_no_faults(database: Database, tmp_path: Path) -> None:
    assert found(database, tmp_path) == []


def both_newest(connection: Connection) -> None:
    connection.execute(update(device_keys).values(ends_at=None))


def token_of_another(connection: Connection) -> None:
    connection.execute(update(enrolments).where(enrolments.c.used_by == "cam-2").values(device="cam-1"))


def broken_chain(connection: Connection) -> None:
    connection.execute(update(endorsements).values(new=public_key_hex(make_key())))


FAULTS: dict[str, tuple[Break, str]] = {
    "a number that went back": (
        lambda c: c.execute(update(devices).where(devices.c.id == "open-1").values(sequence=3)),
        "numbers above their own: open-1. paramcast access reset open-1",
    ),
    "an enrolled device that is lost": (
        lambda c: c.execute(devices.delete().where(devices.c.id == "cam-2")),
        "not in the registry, so they are not served: cam-2. paramcast access revoke cam-2",
    ),
    "two newest keys": (both_newest, "more than one newest key: cam-1"),
    "another device's token": (token_of_another, "used a token of another device: cam-2"),
    "a token that nobody used": (
        lambda c: c.execute(update(enrolments).where(enrolments.c.used_by == "cam-1").values(used_by=None)),
        "tokens have a time of use without a device",
    ),
    "an operator's token in the clear": (
        lambda c: c.execute(update(operators).values(digest="Bearer")),
        "an operator's token is kept in the clear, 1 in all",
    ),
    "a hash with a letter that is none": (
        lambda c: c.execute(update(operators).values(digest="g" * 64)),
        "an operator's token is kept in the clear",
    ),
    "a broken chain": (broken_chain, "the chain of signing keys is broken"),
    "only a canary": (
        lambda c: c.execute(update(models).values(share=5)),
        "no version of base model aaaaaaaaaaaa serves all of its devices",
    ),
    "a lost index": (
        lambda c: c.execute(text("DROP INDEX ix_device_keys_device")),
        "the index ix_device_keys_device of device_keys is missing",
    ),
    "a lost table": (lambda c: c.execute(text("DROP TABLE feedback")), "the table feedback is missing"),
    "a lost column": (lambda c: c.execute(text("ALTER TABLE devices DROP COLUMN y")), "devices lacks y"),
}


class UndoneError(Exception):
    pass


def test_each_fault_is_named_with_its_cure(database: Database) -> None:
    for name, (broken, told) in FAULTS.items():
        with contextlib.suppress(UndoneError), database.writing() as connection:
            broken(connection)
            faults = [f"{fault.what}. {fault.cure}" for fault in look(connection)]
            assert len(faults) == 1, (name, faults)
            assert told in faults[0], name
            raise UndoneError


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_published_files_are_looked_at(how: str, database: Database, tmp_path: Path) -> None:
    (file,) = (tmp_path / "models").rglob("weights")
    file.write_bytes(b"other") if how == "changed" else file.unlink()
    (fault,) = found(database, tmp_path)
    assert "version 1 is in service, but" in fault
    assert "restore the folder from its backup, or: paramcast model rollback" in fault


def test_a_reference_to_nothing_and_a_damaged_file_are_found(tmp_path: Path) -> None:
    """Of SQLite, which lets either happen."""
    file = tmp_path / "state.db"
    database = Database.open(file)
    with database.writing() as connection:
        take_sequences(connection, [(f"device-{number}", 0) for number in range(2000)], NOW_MS)
        record(connection, [package("device-1", 1)])
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:  # which checks nothing
        other.execute("UPDATE packages SET version = 77")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'packages'"
        ((page,),) = other.execute(query).fetchall()
    (fault,) = check(database, None)
    assert fault.what.endswith("of packages names a row of models that does not exist")
    assert "restore a backup" in fault.cure
    database.close()
    data = bytearray(file.read_bytes())
    data[4096 * (page - 1) : 4096 * page] = bytes(4096)
    file.write_bytes(data)
    database = Database.open(file, as_it_is=True)
    assert any("the database's file is damaged" in fault.what for fault in check(database, None))
    database.close()


def test_doctor_checks_a_state_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    Database.open(file, revision="0002").close()
    run = CliRunner()
    told = run.invoke(paramcast, ["doctor", "--state", str(file)])
    assert told.exit_code == 1
    assert "the schema is 0002" in told.output
    with Database.open(file, as_it_is=True).reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0002"
    Database.open(file).close()
    assert "has no faults" in run.invoke(paramcast, ["doctor", "--state", str(file)]).output
    file.chmod(0o644)
    told = run.invoke(paramcast, ["doctor", "--state", str(file)])
    assert f"cure: chmod 600 {file}" in told.output
    none = run.invoke(paramcast, ["doctor", "--state", str(tmp_path / "none.db")])
    assert isinstance(none.exception, StateInputError)


def test_a_service_looks_while_it_is_idle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    database, metrics = Database.open(tmp_path / "state.db"), Metrics()
    inspection = Inspection(database.for_viewers(), None, metrics, lambda: now[0])
    assert not inspection.look_if_idle()  # nobody knows yet whether anything is asked
    assert inspection.look_if_idle()
    assert not inspection.look_if_idle()  # it has just looked
    with database.writing() as connection:
        take_sequences(connection, [("cam-1", 0)], NOW_MS)
        connection.execute(update(devices).values(sequence=-1))
    now[0] += EVERY_S
    metrics.answers[200].inc()
    assert not inspection.look_if_idle()
    assert inspection.look_if_idle()
    assert [fault.what for fault in inspection.faults] == ["devices have negative numbers: cam-1"]
    assert "Cure: paramcast access reset cam-1" in caplog.text
    assert b"paramcast_integrity_faults 1.0" in metrics.text()
    with database.writing() as connection:
        connection.execute(update(devices).values(sequence=1))
    now[0] += LATEST_S
    metrics.answers[200].inc()
    assert inspection.look_if_idle()  # always busy, but it is high time
    assert inspection.faults == []
    database.close()


def test_readiness_tells_how_many_faults_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paramcast.server.inspection._PAUSE_S", 0.01)
    database = Database.open(tmp_path / "state.db")
    with database.writing() as connection:
        take_sequences(connection, [("cam-1", 0)], NOW_MS)
        connection.execute(update(devices).values(sequence=-1))
    app = create_app(TinyBackend(), make_key(), database=database)

    async def told() -> dict[str, object]:
        transport = httpx2.ASGITransport(app=app)
        client = httpx2.AsyncClient(transport=transport, base_url="http://service")
        async with app.router.lifespan_context(app), client:
            while not (found := (await client.get("/readyz")).json())["faults"]:
                await asyncio.sleep(0.01)
        return found

    assert asyncio.run(asyncio.wait_for(told(), 30)) == {"status": "ready", "faults": 1}
    database.close()
