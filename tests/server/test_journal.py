"""A backup, revocations, a restore: what was revoked stays revoked, and a failed try blocks nothing."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from paramcast.cli import paramcast
from paramcast.protocol import endorse, make_key, public_key_hex
from paramcast.server import Database
from paramcast.server.db import StateError, StateInputError, identities, published
from paramcast.server.db.backup import back_up, restore
from paramcast.server.db.journal import Journal

NOW = int(1000 * time.time())
KEYS = {name: public_key_hex(make_key()) for name in ("good", "stolen", "new", "late", "next")}
SIGNING = [make_key(), make_key()]


def enrol(database: Database, device: str, key: str) -> str:
    with database.writing() as connection:
        token = identities.new_enrolment(connection, device, NOW, 10**9)
        identities.enrol(connection, token, device, KEYS[key], NOW)
    return token


def before_and_after(where: str, folder: Path) -> tuple[Path, Journal, str, list[str]]:
    """A backup, a journal of what came after it, a token that was used since, and tokens of operators."""
    journal = Journal(folder / "the.journal")
    database = Database.open(where, journal=journal)
    enrol(database, "cam-1", "good")
    enrol(database, "stolen-cam", "stolen")
    with database.writing() as connection:
        unused = identities.new_enrolment(connection, "cam-2", NOW, 10**9)
        operators = [identities.grant(connection, "mallory", "admin", NOW)]
        for digest in ("1" * 64, "2" * 64):
            published.publish(
                connection, model="a" * 64, digest=digest, form="f", task="qa", share=100, now_ms=NOW
            )
    back_up(database, folder / "b.gz")
    with database.writing() as connection:
        identities.revoke(connection, "stolen-cam", NOW + 1)
        identities.enrol(connection, unused, "cam-2", KEYS["new"], NOW + 1)
        identities.withdraw(connection, "mallory")
        operators.append(identities.grant(connection, "ann", "viewer", NOW + 1))
        published.withdraw(connection, None, NOW + 1)
        identities.add_endorsement(connection, endorse(SIGNING[0], public_key_hex(SIGNING[1])), NOW + 1)
        identities.rotate(connection, "cam-1", KEYS["good"], KEYS["next"], NOW + 1)
    enrol(database, "cam-3", "late")
    database.close()
    return folder / "b.gz", journal, unused, operators


def test_a_restore_brings_nothing_back_that_was_revoked(new_url: Callable[[], str], tmp_path: Path) -> None:
    backup, journal, used, (mallory, ann) = before_and_after(new_url(), tmp_path)
    where = new_url()
    assert restore(where, backup, journal)[1] == 14
    later = int(1000 * time.time()) + 1000
    database = Database.open(where)
    with database.writing() as connection:
        known = identities.known(connection, ["cam-1", "stolen-cam", "cam-2", "cam-3"], later)
        assert {name: one.keys for name, one in known.items()} == {
            "cam-1": [KEYS["next"], KEYS["good"]],
            "stolen-cam": [],
            "cam-2": [KEYS["new"]],
            "cam-3": [KEYS["late"]],
        }
        assert identities.operator_of(connection, mallory, 1) is None
        assert identities.operator_of(connection, ann, 1).role == "viewer"
        assert [one.version for one in published.in_service(connection)] == [1]
        assert [link.new for link in identities.all_endorsements(connection)] == [public_key_hex(SIGNING[1])]
        with pytest.raises(StateInputError, match="used"):
            identities.enrol(connection, used, "cam-2", public_key_hex(make_key()), NOW)
    database.close()


def test_a_damaged_backup_leaves_room_for_the_right_one(new_url: Callable[[], str], tmp_path: Path) -> None:
    backup, journal, *_ = before_and_after(new_url(), tmp_path)
    cut, large, target = tmp_path / "cut.gz", tmp_path / "large.gz", new_url()
    cut.write_bytes(backup.read_bytes()[:-40])
    lines = gzip.decompress(backup.read_bytes()).decode().splitlines()
    row = ["devices", {"id": "x", "sequence": 2**63, "first_seen_at": 0, "last_seen_at": 0}]
    with gzip.open(large, "wt") as file:
        file.write("\n".join([lines[0], json.dumps(row)]))
    for bad in (cut, large):
        with pytest.raises(Exception, match=r"no complete backup|failed"):
            restore(target, bad, journal)
    assert restore(target, backup, journal)[0] > 0
    with pytest.raises(StateInputError, match="holds a state already"):
        restore(target, backup, journal)


def test_a_line_that_was_cut_off_is_no_line_and_another_is_an_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.journal")
    journal.begin()
    assert list(journal) == []
    journal.add([{"what": "device revoked", "device": "cam-1"}])
    with journal.path.open("ab") as file:
        file.write(b'{"at": 1, "what": "dev')
    assert [one["device"] for one in journal] == ["cam-1"]
    journal.add([{"what": "device revoked", "device": "cam-2"}])  # goes on after what was whole
    assert [one["device"] for one in journal] == ["cam-1", "cam-2"]
    journal.path.write_bytes(b'{"what": "drop table"}\n')
    with pytest.raises(StateInputError, match=r"line 1 .* is no line of a journal"):
        list(journal)


def test_a_disk_that_takes_a_part_of_a_line_has_taken_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, write = Journal(tmp_path / "x.journal"), os.write
    journal.add([{"what": "device revoked", "device": "cam-1"}])
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
        with pytest.raises(StateError, match="cannot write the journal"):
            journal.add([{"what": "device revoked", "device": "cam-2"}])
    journal.add([{"what": "device revoked", "device": "cam-3"}])
    assert [one["device"] for one in journal] == ["cam-1", "cam-3"]


def test_what_fails_is_not_done_and_a_full_disk_revokes_nothing_half(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "cloud.db")
    enrol(database, "cam-1", "good")
    (tmp_path / "cloud.journal").unlink()
    (tmp_path / "cloud.journal").mkdir()  # it cannot be written
    with pytest.raises(Exception, match="cannot write the journal"), database.writing() as connection:
        identities.revoke(connection, "cam-1", NOW)
    with database.reading() as connection:
        assert identities.known(connection, ["cam-1"], NOW)["cam-1"].keys == [KEYS["good"]]
    database.close()


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(paramcast, list(map(str, words)))
    return getattr(result.exception, "exit_code", result.exit_code), f"{result.output}{result.exception}"


def test_the_command_asks_for_the_journal(tmp_path: Path) -> None:
    state, backup, new = tmp_path / "cloud.db", tmp_path / "b.gz", tmp_path / "new.db"
    assert run("state", "upgrade", "--new", "--state", state)[0] == 0
    assert run("state", "backup", backup, "--state", state)[0] == 0
    assert run("access", "grant", "ann", "--role", "admin", "--state", state)[0] == 0
    assert run("access", "withdraw", "ann", "--state", state)[0] == 0
    code, told = run("state", "restore", backup, "--state", new)
    assert (code, "--journal FILE" in told, new.exists()) == (2, True, False)
    words = ["state", "restore", backup, "--state", new, "--journal", tmp_path / "cloud.journal"]
    assert "2 acts of the journal" in run(*words)[1]
    assert (tmp_path / "new.journal").read_bytes() == (tmp_path / "cloud.journal").read_bytes()
    code, told = run("state", "restore", backup, "--state", tmp_path / "x.db", "--without-journal")
    assert (code, "repeat the revocations" in told) == (0, True)
