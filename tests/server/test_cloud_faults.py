"""The database goes and comes back under a running service; devices get what they asked for in the end."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import postgres
import pytest
from backends import TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP, parameter_shapes
from sqlalchemy import select, text

from paramcast.device import CloudClient
from paramcast.device import client as client_module
from paramcast.protocol import AdaptRequest, make_key, open_package, public_key_hex
from paramcast.server import Database, create_app, health
from paramcast.server.db import StateError
from paramcast.server.db import database as database_module
from paramcast.server.db.schema import packages


@pytest.fixture(autouse=True)
def _each_look_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "KEPT_S", 0.0)


KEY = make_key()


def request(device: str) -> AdaptRequest:
    queries = np.ones((2, TEXT_UP), "f4")
    return AdaptRequest(device, MODEL, 0, np.ones((2, IMAGE_UP), "f4"), queries, np.arange(2))


def sequence_of(data: bytes, device: str) -> int:
    rules = {"device": device, "model": MODEL, "after": 0, "now": 0, "expected": parameter_shapes("full")}
    return open_package(data, public_key_hex(KEY), **rules).sequence  # type: ignore[arg-type]


def test_a_database_that_is_restarted_under_load_loses_nothing(
    postgres_server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(postgres_server.new_database())
    seen: dict[str, list[int]] = {f"cam-{place}": [] for place in range(4)}
    refused, back, enough = threading.Event(), threading.Event(), threading.Event()

    def wait(_: float) -> None:
        """A device that has to come back does so when the database is there again."""
        refused.set()
        assert back.wait(60)

    monkeypatch.setattr(client_module, "_sleep", wait)
    with serving(create_app(TinyBackend(), KEY, database=database)) as url:

        def ask(device: str) -> None:
            with CloudClient(url) as client:
                while not enough.is_set():
                    seen[device].append(sequence_of(client.exchange(request(device)), device))

        threads = [threading.Thread(target=ask, args=(device,)) for device in seen]
        for thread in threads:
            thread.start()
        while min(map(len, seen.values())) < 5:
            assert not refused.wait(0.01)
        postgres_server.stop()
        assert refused.wait(60)
        assert httpx2.get(f"{url}/readyz").status_code == 503
        assert httpx2.get(f"{url}/healthz").status_code == 200
        before = {device: len(numbers) for device, numbers in seen.items()}
        postgres_server.start()
        back.set()
        while any(len(seen[device]) < count + 5 for device, count in before.items()):
            assert all(thread.is_alive() for thread in threads)
        enough.set()
        for thread in threads:
            thread.join(60)
        assert httpx2.get(f"{url}/readyz").status_code == 200
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))
    database.close()


def test_a_state_that_cannot_grow_is_told_and_is_used_again(tmp_path: Path) -> None:
    """As on a full disk: SQLite may use no more pages, then some more."""
    database = Database.open(tmp_path / "cloud.db")
    with serving(create_app(TinyBackend(), KEY, database=database)) as url, httpx2.Client() as client:

        def post(device: str) -> httpx2.Response:
            return client.post(f"{url}/v1/adapt", content=request(device).encode())

        first = post("cam-1")
        with database.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit(database, pages)
        given, place = [sequence_of(first.content, "cam-1")], 0
        while (reply := post("cam-1")).status_code == 200:
            given.append(sequence_of(reply.content, "cam-1"))
            place += 1
            assert place < 2000
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        limit(database, 1_000_000)
        given.append(sequence_of(post("cam-1").content, "cam-1"))
    assert given == list(range(1, len(given) + 1))
    database.close()


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 3 MB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_volume_is_told_and_nothing_is_lost(small_volume: Path) -> None:
    database = Database.open(small_volume / "cloud.db")
    ballast = small_volume / "ballast"
    with serving(create_app(TinyBackend(), KEY, database=database)) as url, httpx2.Client() as client:

        def post() -> httpx2.Response:
            return client.post(f"{url}/v1/adapt", content=request("cam-1").encode())

        given = [sequence_of(post().content, "cam-1")]
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        while (reply := post()).status_code == 200:
            given.append(sequence_of(reply.content, "cam-1"))
            assert len(given) < 2000
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert client.get(f"{url}/readyz").status_code == 503
        ballast.unlink()
        given.append(sequence_of(post().content, "cam-1"))
        assert client.get(f"{url}/readyz").status_code == 200
    assert given == list(range(1, len(given) + 1))
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        kept = connection.execute(select(packages.c.sequence).order_by(packages.c.sequence)).scalars()
        assert list(kept) == given
    database.close()


def limit(database: Database, pages: int) -> None:
    """The limit is a connection's own: of all that the service uses now and later."""
    from sqlalchemy import event

    def apply(connection: object, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

    database.engine.dispose()
    event.listen(database.engine, "connect", apply)


def test_viewers_who_look_at_much_keep_no_device_waiting(
    new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "VIEWERS_WAIT_S", 0.05)
    database = Database.open(new_url())
    viewers = database.for_viewers()
    with contextlib.ExitStack() as looking:
        for _ in range(4):
            looking.enter_context(viewers.reading())
        with pytest.raises(StateError), viewers.reading():
            pass
        with serving(create_app(TinyBackend(), KEY, database=database)) as url, httpx2.Client() as client:
            assert client.post(f"{url}/v1/adapt", content=request("cam-1").encode()).status_code == 200
    with viewers.reading():
        pass
    database.close()


def test_a_database_that_is_locked_is_given_up_and_health_does_not_hang(
    postgres_server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCKED_S", 0.2)
    where = postgres_server.new_database()
    database, other = Database.open(where), Database.open(where)
    with (
        serving(create_app(TinyBackend(), KEY, database=database)) as url,
        httpx2.Client(timeout=20) as client,
    ):
        with other.writing() as connection:
            connection.execute(text("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE"))
            reply = client.post(f"{url}/v1/adapt", content=request("cam-1").encode())
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert client.get(f"{url}/healthz").status_code == 200
            assert client.get(f"{url}/readyz").status_code == 503
        assert client.post(f"{url}/v1/adapt", content=request("cam-1").encode()).status_code == 200
    database.close()
    other.close()
