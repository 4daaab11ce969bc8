"""What is published and rolled back: bad models, damaged files, two operators, commands run by root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from backends import BrokenBackend, TinyBackend, serving
from click.testing import CliRunner
from sqlalchemy import insert, select

from paramcast.cli import paramcast
from paramcast.errors import InputError, ParamcastError
from paramcast.protocol import AdaptRequest, load_key, make_key, save_key
from paramcast.server import Database, ModelStore, PublishedModels, Served, create_app
from paramcast.server.db import StateConflictError, StateInputError, identities, published
from paramcast.server.db.schema import device_keys, devices, enrolments
from paramcast.server.settings import Settings
from paramcast.server.trial import check_backend, trial_requests

MODEL = TinyBackend().model


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database.open(url)
    yield database
    database.close()


def put(database: Database, digest: str, share: int = 100) -> int:
    with database.writing() as connection:
        return published.publish(
            connection, model=MODEL, digest=digest, form="full", task="qa", share=share, now_ms=1
        ).version


def standing(database: Database) -> list[int]:
    with database.reading() as connection:
        return [one.version for one in published.in_service(connection)]


def test_a_roll_back_takes_the_canary_of_the_same_files_with_it(database: Database) -> None:
    good, canary, whole = put(database, "a" * 64), put(database, "b" * 64, 5), put(database, "b" * 64)
    with database.writing() as connection:
        gone = [one.version for one in published.withdraw(connection, None, 2)]
    assert gone == [whole, canary]
    assert standing(database) == [good]
    put(database, "a" * 64)  # the same files again: there is nothing else to go back to
    with database.writing() as connection, pytest.raises(StateInputError, match="with other files"):
        published.withdraw(connection, None, 3)


def test_two_operators_roll_back_once(database: Database) -> None:
    first, second, third = (put(database, name * 64) for name in "abc")
    with database.writing() as connection:
        tokens = [identities.grant(connection, name, "admin", 1) for name in ("ann", "bob")]
    replies: list[httpx2.Response] = []

    def press(url: str, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"}
        replies.append(
            httpx2.post(f"{url}/v1/operator/models/rollback", json={"version": third}, headers=headers)
        )

    with serving(create_app(TinyBackend(), make_key(), database=database)) as url:
        threads = [threading.Thread(target=press, args=(url, token)) for token in tokens]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(reply.status_code for reply in replies) == [200, 409]
    assert standing(database) == [second]
    with database.writing() as connection, pytest.raises(StateConflictError, match=f"that is {second}"):
        published.withdraw(connection, None, 3, third)
    assert first != second


class Rare(TinyBackend):
    """Makes NaN where the context is like a device's, but not for features that are all alike."""

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        made = super().generate(requests)
        for request, tensors in zip(requests, made, strict=True):
            if request.anchors.std() > 1.5:
                next(iter(tensors.values()))[...] = np.nan
        return made


@pytest.mark.parametrize("fault", ["raises", "nan", "missing", "shape", "nothing"])
def test_a_model_that_cannot_serve_devices_is_found_before_it_does(fault: str) -> None:
    check_backend(TinyBackend())
    with pytest.raises(InputError):
        check_backend(BrokenBackend(fault))
    with pytest.raises(InputError, match="NaN or infinities in hidden"):
        check_backend(Rare())


def test_requests_of_a_trial_are_well_formed() -> None:
    for request in trial_requests(TinyBackend(), 64):
        assert AdaptRequest.decode(request.encode()).device == "probe"


@pytest.fixture
def shelf(tmp_path: Path, database: Database) -> Callable[[str, int], int]:
    """Publishes a folder with one file that says which backend it is."""

    def publish(kind: str, share: int = 100) -> int:
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        (folder / "kind").write_text(kind)
        return put(database, ModelStore(tmp_path / "store").add(folder), share)

    return publish


def load(folder: Path) -> Served:
    kind = (folder / "kind").read_text()
    return Served({"nan": Rare, "good": TinyBackend, "other": TinyBackend}[kind]())


def test_a_bad_version_stops_no_service(
    shelf: Callable[..., int], database: Database, tmp_path: Path
) -> None:
    store = ModelStore(tmp_path / "store")
    good, canary = shelf("good"), shelf("other", 10)
    models = PublishedModels(database, store, load)
    assert [one.number for one in models.serving] == [canary, good]
    bad = shelf("nan")
    models.refresh()  # it was to serve all: what serves them goes on
    assert [one.number for one in models.serving] == [canary, good]
    assert "NaN" in next(iter(models.problems.values()))
    with pytest.raises(InputError, match=f"version {bad} cannot be served.*rollback"):
        PublishedModels(database, store, load)
    with database.writing() as connection:
        published.withdraw(connection, None, 2)
    models.refresh()
    assert [one.number for one in models.serving] == [canary, good]
    (folder,) = (path for path in store.root.iterdir() if (path / "kind").read_text() == "other")
    (folder / ".DS_Store").write_text("x")
    again = PublishedModels(database, store, load)  # the canary alone is left out
    assert [one.number for one in again.serving] == [good]
    (folder / ".DS_Store").unlink()
    again._again = 0.0  # a minute later
    again.refresh()
    assert [one.number for one in again.serving] == [canary, good]


def test_what_killed_publishers_left_is_removed(shelf: Callable[..., int], tmp_path: Path) -> None:
    shelf("good")
    for name, age in (("old", 2 * 86400), ("new", 0)):
        left = tmp_path / "store" / f".{name}.tmp"
        left.mkdir()
        (left / "half").write_text("x")
        at = left.stat().st_mtime - age
        os.utime(left, (at, at))
    shelf("other")
    assert [path.name for path in (tmp_path / "store").glob(".*.tmp")] == [".new.tmp"]


def told(*words: object) -> str:
    """What a command that is to fail says."""
    result = CliRunner().invoke(paramcast, list(map(str, words)))
    assert isinstance(result.exception, ParamcastError), result.output
    assert result.exception.exit_code == 2
    return str(result.exception)


def test_no_command_but_serve_makes_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    for words in (
        ["state", "backup", "b.gz"],
        ["state", "upgrade"],
        ["enroll", "cam-1"],
        ["access", "grant", "ann", "--role", "viewer"],
        ["access", "revoke", "cam-1"],
        ["model", "list"],
        ["model", "rollback"],
    ):
        assert "there is no state at typo.db" in told(*words, "--state", "typo.db")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    result = CliRunner().invoke(paramcast, ["state", "upgrade", "--new", "--state", "right.db"])
    assert result.exit_code == 0
    assert CliRunner().invoke(paramcast, ["enroll", "--state", "right.db"]).exit_code == 0
    assert (tmp_path / "right.db").stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(paramcast, ["state", "backup", "b.gz", "--state", "right.db"]).exit_code == 0
    assert (tmp_path / "b.gz").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PARAMCAST_REQUIRE_ENROLLMENT", "true", "did you mean PARAMCAST_REQUIRE_ENROLMENT"),
        ("PARAMCAST_TLS_CERT", "x", "is no setting"),
        ("PARAMCAST_KEEP_DAYS", "inf", "keep_days"),
        ("PARAMCAST_KEEP_DAYS", "nan", "keep_days"),
        ("PARAMCAST_KEEP_DAYS", "1e12", "keep_days"),
        ("PARAMCAST_LIFETIME_S", "100000000000000000", "lifetime_s"),
        ("PARAMCAST_WAITING_ROOM", "10000000000", "waiting_room"),
        ("PARAMCAST_DRAIN_S", "1000000000000", "drain_s"),
        ("PARAMCAST_RATE_PER_MINUTE", "inf", "rate_per_minute"),
        ("PARAMCAST_RATE_PER_MINUTE", "1e-320", "0 means no limit"),
        ("PARAMCAST_CLOCK_SKEW_S", "nan", "clock_skew_s"),
        ("PARAMCAST_CLOCK_SKEW_S", "1e-9", "clock_skew_s"),
    ],
)
def test_settings_that_would_fail_later_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        Settings.gather(None)
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    Settings.gather(None)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, for files of another user")
def test_what_root_writes_beside_the_service_s_files_is_the_service_s(tmp_path: Path) -> None:
    """The unit runs as another user: the key after `rotate-key`, published models, a restored state."""
    nobody, home = 65534, tmp_path / "state"
    home.mkdir()
    key, state = home / "cloud.key", home / "cloud.db"
    save_key(make_key(), key)
    before = load_key(key)
    Database.open(state).close()
    for path in (home, key, state):
        os.chown(path, nobody, nobody)
    for words in (
        ["access", "rotate-key", "--key", key, "--state", state],
        ["state", "backup", home / "b.gz", "--state", state],
        ["state", "restore", home / "b.gz", "--state", home / "new.db", "--journal", home / "cloud.journal"],
    ):
        assert CliRunner().invoke(paramcast, list(map(str, words))).exit_code == 0, words
    model = tmp_path / "model"
    model.mkdir(mode=0o700)
    (model / "kind").write_text("good")
    (model / "kind").chmod(0o600)
    digest = ModelStore(home / "cloud.models").add(model)
    assert load_key(key) != before
    for path in (key, home / "new.db", home / "cloud.models", home / "cloud.models" / digest / "kind"):
        assert path.stat().st_uid == nobody, path
    (tmp_path.parent).chmod(0o755)
    if shutil.which("setpriv"):
        code = "import sys; [open(name, 'rb').read() for name in sys.argv[1:]]"
        as_nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            sys.executable,
            "-c",
            code,
        ]
        files = [str(key), str(home / "cloud.models" / digest / "kind")]
        for parent in tmp_path.parents:
            if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o005 != 0o005:
                return  # pytest's own folder is root's alone
        subprocess.run(as_nobody + files, check=True)


def test_tokens_are_listed_and_withdrawn_and_devices_forgotten(tmp_path: Path) -> None:
    state = ("--state", tmp_path / "cloud.db")
    database = Database.open(tmp_path / "cloud.db")

    def run(*words: object) -> str:
        result = CliRunner().invoke(paramcast, [*map(str, words), *map(str, state)])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    token = run("enroll", "cam-1").strip()
    run("access", "grant", "ann", "--role", "viewer")
    lines = run("access", "list").splitlines()
    assert [line.split()[:2] for line in lines] == [["operator", "ann:"], ["token", lines[1].split()[1]]]
    run("access", "withdraw-token", lines[1].split()[1])
    assert "token" not in run("access", "list")
    assert "no token, or more than one" in told("access", "withdraw-token", "0" * 12, *state)
    with database.writing() as connection:
        key = "a" * 64
        with pytest.raises(StateInputError, match="too old"):
            identities.enrol(connection, token, "cam-1", key, int(1000 * time.time()))
    with database.writing() as connection:
        for number, device in enumerate(("cam-1", "cam-1:anna", "cam-10")):
            named = identities.new_enrolment(connection, device, 1, 10**15)
            identities.enrol(connection, named, device, f"{number}" * 64, 2)
    run("access", "forget", "cam-1")
    with database.writing() as connection:
        assert set(identities.known(connection, ["cam-1", "cam-1:anna", "cam-10"], 3)) == {"cam-10"}
        tables = (devices, device_keys, enrolments)
        rows = [str(row) for table in tables for row in connection.execute(select(table))]
        assert not any("cam-1'" in row or "anna" in row for row in rows)
        row = {"id": "made-up", "sequence": 1, "first_seen_at": 1, "last_seen_at": 1}
        connection.execute(insert(devices).values(row))
        assert identities.prune_names(connection, 10) == 1
        assert connection.execute(select(devices.c.id)).scalars().all() == ["cam-10"]
    assert "nothing is known" in told("access", "forget", "cam-1", *state)
    database.close()
