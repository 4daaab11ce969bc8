"""Bytes are delayed, cut, duplicated, reordered and corrupted between enrolled devices and the cloud.

Whatever happens on the way, a device runs its base model or what was made for it from what it has seen, and
what goes wrong is an error of the one family that callers catch.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import make_bundle
from proxy import FAULTS, proxied
from sqlalchemy import select

from paramcast.device import CloudClient, DeviceIdentity, DeviceRuntime
from paramcast.device import client as client_module
from paramcast.errors import ParamcastError
from paramcast.protocol import make_key
from paramcast.server import Database, RequestGuard, create_app
from paramcast.server.db import identities
from paramcast.server.db.schema import packages

DEVICES, ROUNDS = 3, 12
FRAMES = np.zeros((2, 8, 8, 3), np.uint8)
QUESTIONS = ["what colour is the ball"]
TLS = ssl.create_default_context()  # not used, but a client that is given none takes its time to make one


@pytest.fixture
def database() -> Iterator[Database]:
    made = Database.temporary()
    yield made
    made.close()


@pytest.fixture
def cloud(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(client_module, "_sleep", lambda seconds: None)
    app = create_app(
        TinyBackend(), make_key(), quantization="fp32", database=database, gate=RequestGuard(required=True)
    )
    with serving(app) as url:
        yield url


class Fleet:
    """Enrolled devices, each of which has seen something of its own."""

    def __init__(self, database: Database, url: str, folder: Path) -> None:
        bundle = make_bundle(folder / "bundle")
        self.identities: list[DeviceIdentity] = []
        self.devices: list[DeviceRuntime] = []
        self.right: list[tuple[list[float], list[float]]] = []
        for place in range(DEVICES):
            name = f"cam-{place}"
            with database.writing() as connection:
                token = identities.new_enrolment(connection, name, int(1000 * time.time()), 60_000)
            self.devices.append(self._new(bundle, name, place))
            with CloudClient(url, tls=TLS) as client:
                self.identities.append(client.enrol(token, folder / name, name))
                # The same device, as it is when nothing comes between.
                twin = self._new(bundle, name, place)
                base = said(twin)
                client.adapt(twin)
            self.right.append((base, said(twin)))
            assert base != said(twin)
        assert len({tuple(adapted) for _, adapted in self.right}) == DEVICES

    @staticmethod
    def _new(bundle: Path, name: str, place: int) -> DeviceRuntime:
        runtime = DeviceRuntime.load(bundle, name)
        runtime.observe(FRAMES + np.uint8(80 * place + 20), ["who is there", "what is red"][place % 2 :])
        return runtime

    def adapt(self, url: str, place: int, rounds: int) -> int:
        """How often a device got a package; asserts that it never ran anything else."""
        runtime, (base, adapted), got, sequence = self.devices[place], self.right[place], 0, 0
        for _ in range(rounds):
            # A client for each round: what one connection has come to must not spoil the next.
            with CloudClient(url, 0.3, identity=self.identities[place], tls=TLS) as client:
                try:
                    package = client.adapt(runtime)
                except ParamcastError:
                    assert said(runtime) == (adapted if got else base)
                    continue
            got += 1
            assert package.sequence > sequence
            sequence = package.sequence
            assert said(runtime) == adapted
        return got


def said(runtime: DeviceRuntime) -> list[float]:
    return [answer.probability for answer in runtime.answer(FRAMES, QUESTIONS)]


def everywhere(fleet: Fleet, url: str, rounds: int) -> list[int]:
    """All devices at once; how many packages each got."""
    got, failed = [-1] * DEVICES, list[BaseException]()

    def one(place: int) -> None:
        try:
            got[place] = fleet.adapt(url, place, rounds)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(place,)) for place in range(DEVICES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return got


@pytest.mark.parametrize("faults", [*((fault,) for fault in FAULTS), FAULTS], ids=[*FAULTS, "all"])
def test_no_wrong_package_is_run_and_nothing_is_lost(
    cloud: str, database: Database, tmp_path: Path, faults: tuple[str, ...]
) -> None:
    fleet = Fleet(database, cloud, tmp_path)
    with proxied(cloud, seed=1) as proxy:
        proxy.faults = faults
        got = everywhere(fleet, proxy.url, ROUNDS)
        assert all(proxy.done[fault] > 1 for fault in faults), proxy.done
        proxy.faults = ()
        assert everywhere(fleet, proxy.url, 2) == [2] * DEVICES
    assert min(got) > 0, got
    with database.reading() as connection:
        for runtime in fleet.devices:
            found = connection.execute(
                select(packages.c.sequence).where(packages.c.device == runtime.device_id)
            ).scalars()
            numbers = sorted(found)
            # Numbers without gaps, also of packages that were lost on the way.
            assert numbers == list(range(1, len(numbers) + 1))
            assert runtime.status()["sequence"] == numbers[-1]


def test_what_was_sent_serves_nobody_a_second_time(cloud: str, database: Database, tmp_path: Path) -> None:
    fleet = Fleet(database, cloud, tmp_path)
    with proxied(cloud, seed=1) as proxy:
        assert everywhere(fleet, proxy.url, 3) == [3] * DEVICES
        assert not any(proxy.done.values())  # it was told nothing
        recorded = [bytes(stream) for stream in proxy.recorded if b"authorization" in stream]
    assert len(recorded) == 3 * DEVICES
    with database.reading() as connection:
        before = connection.execute(select(packages.c.sequence)).all()
    for stream in recorded:
        assert replayed(cloud, stream) == {401}
    with database.reading() as connection:
        assert connection.execute(select(packages.c.sequence)).all() == before


def replayed(url: str, stream: bytes) -> set[int]:
    """The statuses of the answers to signed requests that were recorded on one connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 10) as connection:
        signed = stream[stream.index(b"POST /v1/adapt") :].replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        connection.sendall(signed)
        answer = bytearray()
        while data := connection.recv(1 << 16):
            answer += data
    return {int(status) for status in re.findall(rb"^HTTP/1.1 (\d+)", answer, re.MULTILINE)}
