"""Who did what stays on record, tokens of operators end, and what names a device goes with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from backends import TinyBackend, serving
from click.testing import CliRunner
from sqlalchemy import insert, update

from paramcast.cli import paramcast
from paramcast.protocol import make_key, public_key_hex
from paramcast.server import Database, create_app
from paramcast.server.db import events, identities, journal
from paramcast.server.db.schema import feedback, operators


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "state.db")
    yield database
    database.close()


def acts(database: Database) -> list[tuple[str, str, str | None]]:
    with database.reading() as connection:
        return [(one.who, one.what, one.device) for one in events.newest(connection, 50)]


def test_acts_tell_who_did_them_over_http_and_by_command(database: Database, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(paramcast, [*words, "--state", str(tmp_path / "state.db")])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    token = run("access", "grant", "ann", "--role", "operator")
    headers = {"authorization": f"Bearer {token}"}
    with serving(create_app(TinyBackend(), make_key(), database=database)) as url:
        asked = httpx2.post(f"{url}/v1/operator/enrolments", json={"device": "cam-1"}, headers=headers)
        with database.writing("cam-1") as connection:
            key = public_key_hex(make_key())
            identities.enrol(connection, asked.json()["token"], "cam-1", key, int(1000 * time.time()))
        httpx2.post(f"{url}/v1/operator/devices/cam-1/revoke", headers=headers)
        told = httpx2.get(f"{url}/v1/operator/events?last=2", headers=headers).json()
        older = httpx2.get(f"{url}/v1/operator/events?before={told[-1]['id']}", headers=headers).json()
    assert [(one["who"], one["what"]) for one in told] == [("ann", "device revoked"), ("cam-1", "enrolled")]
    assert (older[0]["who"], older[0]["what"]) == ("ann", "token made")
    assert asked.json()["token"] not in str(told + older)
    who, what, _ = acts(database)[-1]
    assert (who.endswith("by paramcast access"), what) == (True, "operator granted")
    listed = run("access", "events")
    assert "ann: device revoked cam-1" in listed
    assert token not in listed
    assert ", last used " in run("access", "list")


def test_what_names_a_device_is_erased_with_it(database: Database) -> None:
    with database.writing("ann") as connection:
        for name in ("cam-1", "cam-2"):
            token = identities.new_enrolment(connection, name, 1, 1000)
            identities.enrol(connection, token, name, public_key_hex(make_key()), 1)
    with database.writing("bob") as connection:
        journal.forget(connection, "cam-1")
    left = acts(database)
    assert left[0] == ("bob", "device forgotten", None)
    assert {device for _, _, device in left} == {None, "cam-2"}


def test_what_is_erased_is_in_no_file_of_the_state_while_a_service_has_it_open(
    database: Database, tmp_path: Path
) -> None:
    for name in (*(f"cam-{n}" for n in range(200)), "anna-bedroom"):
        with database.writing(name) as connection:
            token = identities.new_enrolment(connection, name, 1, 1000)
            identities.enrol(connection, token, name, public_key_hex(make_key()), 1)
    with database.writing() as connection:
        told = {"applied": False, "received_at": 1, "reason": "Anna moved it"}
        for number in range(300):
            connection.execute(insert(feedback).values(device="anna-bedroom", sequence=number, **told))
    database.checkpoint()
    words = ["access", "forget", "anna-bedroom", "--state", str(tmp_path / "state.db")]
    assert CliRunner().invoke(paramcast, words).exit_code == 0
    left = {file.name for file in tmp_path.iterdir() if b"nna" in file.read_bytes()}
    assert left == {"state.journal"}  # so that a restore does not bring it back


def test_what_is_undone_was_not_done(database: Database) -> None:
    with contextlib.suppress(RuntimeError), database.writing("ann") as connection:
        identities.revoke(connection, "cam-1", 1)
        raise RuntimeError
    assert acts(database) == []


def test_an_operator_s_token_ends(database: Database) -> None:
    with database.writing() as connection:
        token = identities.grant(connection, "ann", "viewer", 1000, 2000)
        assert identities.operator_of(connection, token, 1999) is not None
        assert identities.operator_of(connection, token, 2000) is None
        connection.execute(update(operators).values(expires_at=None))  # as of before ends were kept
        assert identities.operator_of(connection, token, 10**15) is not None


def test_an_expired_token_is_refused(database: Database) -> None:
    with database.writing() as connection:
        token = identities.grant(connection, "ann", "admin", 1000, 2000)
    with serving(create_app(TinyBackend(), make_key(), database=database)) as url:
        headers = {"authorization": f"Bearer {token}"}
        assert httpx2.get(f"{url}/v1/operator/models", headers=headers).status_code == 401
