"""A fleet that wakes at once: every device asks at the same time, and retries as its client does."""

from __future__ import annotations

import hashlib
import heapq
import re
import resource
import selectors
import socket
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx2
import numpy as np
from sqlalchemy import insert
from tqdm import tqdm

from paramcast.bench.load import LoadError, closed_loop, connections, http_request
from paramcast.bench.processes import cloud_service
from paramcast.bench.rows import row, rows_table
from paramcast.bench.service import CONNECTIONS, SIGNERS, parsed
from paramcast.bench.signers import PATH, Signers
from paramcast.bench.untrained import made_up_request, untrained_artifact, untrained_model
from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, seed_option
from paramcast.device.errors import CloudError
from paramcast.device.exchange import Reply, Retries
from paramcast.device.loop import FIRST_PAUSE_S, LONGEST_PAUSE_S
from paramcast.protocol import SigningKey, authorize, new_nonce, public_key_hex
from paramcast.server import Database
from paramcast.server.db.schema import device_keys
from paramcast.server.db.schema import devices as known_devices

OPEN = 8192
"""Largest number of connections at once, limited by the ports of a machine; other devices wait for one."""

CONNECT_S, ANSWER_S = 5.0, 30.0
"""The default times of `CloudClient`."""

LOOK_S = 0.5
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_LATER = re.compile(rb"\r\nretry-after: (\d+)\r\n", re.IGNORECASE)
_FILLED_AT_ONCE = 20_000


def bench_wake(devices: int, seed: int, room: int = 512) -> list[dict[str, Any]]:
    """Enroll `devices` devices, let them all ask at once, and wait until each has its own update.

    Args:
        devices: Number of devices that wake.
        seed: Seed of the made-up requests.
        room: The service's `waiting_room`.

    Raises:
        LoadError: If not all are served in ample time, or a device gets the update of another device.
    """
    model = untrained_model("codes")
    requests = [made_up_request(model, f"bench-{place}", seed=seed + place) for place in range(8)]
    settings = {"require_enrolment": True, "waiting_room": room}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = untrained_artifact(model, folder / "artifact")
        state = folder / "cloud" / "cloud.db"
        _enrol(state, devices)
        with cloud_service(artifact, folder / "cloud", **settings) as url:
            signers = Signers(state, requests, SIGNERS)
            signers.sign(2 * SIGNERS)
            with connections(url, min(CONNECTIONS, room)) as pool:
                steady = closed_loop(pool, signers, 2.0).rate
            fleet = _Fleet(url, devices, replace(requests[0], device=_name(0)).encode())
            with watched(url) as server:
                fleet.wake(60 + 20 * devices / steady)
    return _rows(fleet, server, devices, steady, room)


def _rows(fleet: _Fleet, server: _Watched, devices: int, steady: float, room: int) -> list[dict[str, Any]]:
    served = np.array(fleet.served_after)
    attempts = np.array([fleet.attempts[place] for place in range(devices)])
    before, most = server.memory[0], max(server.memory)
    other = sum(fleet.seen.values()) - sum(fleet.seen[kind] for kind in ("200", "429", "lost"))
    rate = devices / served.max()
    against = f"the same server, {min(CONNECTIONS, room)} connections that ask in turn: {steady:,.0f}/s"
    return [
        row("wake_served", len(served), "devices", f"{devices:,} that woke at once", len(served) / devices),
        row("wake_rate", rate, "devices/s", against, rate / steady),
        row("wake_half_served", float(np.median(served)), "s"),
        row("wake_all_served", float(served.max()), "s"),
        row("wake_attempts", float(attempts.mean()), "a device", "1", float(attempts.mean())),
        row("wake_most_attempts", float(attempts.max()), "of one device"),
        row("wake_refused", fleet.seen["429"], "answers 429"),
        row("wake_lost", fleet.seen["lost"], "connections refused, cut or too slow"),
        row("wake_other", other, "answers neither 200 nor 429"),
        row("wake_gave_up", fleet.seen_giving_up, "calls that ended without a package; asked again later"),
        row("wake_memory", most, "MB", f"before: {before:,.1f} MB", most / before),
        row("wake_waiting", max(server.waiting), "requests", f"room for {room}", max(server.waiting) / room),
    ]


def _name(place: int) -> str:
    return f"wake-{place:07d}"


def _key(place: int) -> SigningKey:
    return SigningKey(hashlib.sha256(_name(place).encode()).digest())


def _enrol(state: Path, devices: int) -> None:
    state.parent.mkdir(parents=True)
    database = Database.open(state)
    for first in tqdm(range(0, devices, _FILLED_AT_ONCE), desc="enrolling", disable=None):
        places = range(first, min(first + _FILLED_AT_ONCE, devices))
        seen = {"sequence": 0, "first_seen_at": 1, "last_seen_at": 1}
        keys = [{"public_key": public_key_hex(_key(p)), "device": _name(p), "added_at": 1} for p in places]
        with database.writing() as connection:
            connection.execute(insert(known_devices), [{"id": _name(place), **seen} for place in places])
            connection.execute(insert(device_keys), keys)
    database.close()


@dataclass(eq=False)
class _Try:
    """One attempt of a device, with its own connection."""

    place: int
    socket: socket.socket
    deadline: float
    sent: bool = False
    received: bytearray = field(default_factory=bytearray)


class _Fleet:
    """The devices, in one thread that waits in `select` for all of them."""

    def __init__(self, url: str, devices: int, body: bytes) -> None:
        parts = urlsplit(url)
        self._address, self._url = (str(parts.hostname), int(parts.port or 0)), url
        self._body, self._devices = body, devices
        self._retries: dict[int, Retries] = {}
        self._failures = Counter[int]()
        self._later: list[tuple[float, int]] = []
        self._selector = selectors.DefaultSelector()
        self._tries: dict[_Try, None] = {}  # in the order of their start
        self._open = min(OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 256)
        self.attempts = Counter[int]()
        self.seen = Counter[str]()
        self.seen_giving_up = 0
        self.served_after: list[float] = []

    def wake(self, patience_s: float) -> None:
        """Let all devices ask, and return when all are served.

        Raises:
            LoadError: It takes longer than `patience_s`.
        """
        self._begin = looked = time.monotonic()
        ready = deque(range(self._devices))
        with tqdm(total=self._devices, unit="device", disable=None) as bar:
            while len(self.served_after) < self._devices:
                now = time.monotonic()
                if now - self._begin > patience_s:
                    raise LoadError(f"{self._devices - len(self.served_after)} devices were not served")
                while self._later and self._later[0][0] <= now:
                    ready.append(heapq.heappop(self._later)[1])
                while ready and len(self._tries) < self._open:
                    self._ask(ready.popleft())
                for key, _ in self._selector.select(0.01):
                    self._go_on(key.data)
                if now - looked > LOOK_S:
                    looked = now
                    self._expire(now)
                bar.update(len(self.served_after) - bar.n)
        self._selector.close()

    def _ask(self, place: int) -> None:
        self.attempts[place] += 1
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(self._address)
        one = _Try(place, connection, time.monotonic() + CONNECT_S)
        self._tries[one] = None
        self._selector.register(connection, selectors.EVENT_WRITE, one)

    def _go_on(self, one: _Try) -> None:
        try:
            if not one.sent:
                one.socket.sendall(self._signed(one.place))
                one.sent, one.deadline = True, time.monotonic() + ANSWER_S
                self._selector.modify(one.socket, selectors.EVENT_READ, one)
                return
            data = one.socket.recv(1 << 16)
        except OSError as error:
            self._settle(one, Reply(None, httpx2.Headers(), b"", str(error)))
            return
        one.received += data
        head, found, body = one.received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if found and length and len(body) >= int(length[1]):
            self._settle(one, self._reply(one, bytes(head), bytes(body)))
        elif not data:
            self._settle(one, Reply(None, httpx2.Headers(), b"", "the connection was closed"))

    def _signed(self, place: int) -> bytes:
        """Make a device's signed request at the time of sending; all devices send the same anchors."""
        body = self._body.replace(_name(0).encode(), _name(place).encode())
        header = authorize(
            _key(place),
            device=_name(place),
            method="POST",
            path=PATH,
            body=body,
            time_us=time.time_ns() // 1000,
            nonce=new_nonce(),
        )
        return http_request(PATH, body, f"authorization: {header}\r\n")

    @staticmethod
    def _reply(one: _Try, head: bytes, body: bytes) -> Reply:
        status = int(head[9:12])
        if status == 200 and f'"{_name(one.place)}"'.encode() not in body:
            raise LoadError(f"{_name(one.place)} got a package that is not its own")
        later = _LATER.search(head + b"\r\n")
        return Reply(status, httpx2.Headers({"retry-after": later[1].decode()} if later else {}), body)

    def _settle(self, one: _Try, reply: Reply) -> None:
        """Close an attempt; the device is served, or its client says when it retries."""
        self._selector.unregister(one.socket)
        one.socket.close()
        del self._tries[one]
        self.seen[str(reply.status or "lost")] += 1
        place, now = one.place, time.monotonic()
        retries = self._retries.get(place) or self._retries.setdefault(place, Retries(self._url, None))
        try:
            wait_s = retries.wait_s(reply)
        except CloudError:  # the call has failed; the device's loop makes another call after a pause
            self.seen_giving_up += 1
            del self._retries[place]
            wait_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** self._failures[place])
            self._failures[place] += 1
        if wait_s is None:
            self.served_after.append(now - self._begin)
        else:
            heapq.heappush(self._later, (now + wait_s, place))

    def _expire(self, now: float) -> None:
        for one in [one for one in self._tries if one.deadline < now]:
            self._settle(one, Reply(None, httpx2.Headers(), b"", "too slow"))


@dataclass
class _Watched:
    """Values of the server's monitoring: megabytes in memory, requests in the queue."""

    memory: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)

    def look(self, client: httpx2.Client) -> None:
        try:
            found = parsed(client.get("/metrics").text)
        except httpx2.TransportError:
            return
        self.memory.append(found["process_resident_memory_bytes"] / 1e6)
        self.waiting.append(found["paramcast_waiting"])


@contextmanager
def watched(url: str) -> Iterator[_Watched]:
    """Read the server's monitoring in a thread while the block runs."""
    seen, over = _Watched(), threading.Event()
    with httpx2.Client(base_url=url, timeout=ANSWER_S) as client:
        seen.look(client)

        def watch() -> None:
            while not over.wait(LOOK_S):
                seen.look(client)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()
            seen.look(client)


@click.command(name="wake", context_settings={"show_default": True})
@click.option("--devices", default=100_000, type=click.IntRange(1, 9_999_999), help="That wake at once.")
@seed_option
@json_option
def command(devices: int, seed: int, json_file: Path | None) -> None:
    """Wake a fleet at once: measure the time until each device is served, and the load on the service."""
    rows = bench_wake(devices, seed)
    tell(rows_table(rows), rows, seed, json_file)
