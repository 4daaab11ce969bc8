"""Load generator that is not the bottleneck: HTTP/1.1 on kept connections, with prepared requests.

It shares the machine with the server under load, so it is one thread that waits in `select` and does little
else.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

from paramcast.errors import ParamcastError

TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_HEAD_ENDS = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class LoadError(ParamcastError):
    """The server under load did not answer with status 200."""


@dataclass(frozen=True)
class Load:
    """Result of a load.

    Attributes:
        taken_ms: For each request, milliseconds until it was answered.
        seconds: Length of the load, to its last answer.
        busy: Share of that time in which the load generator itself was computing, 0..1.
    """

    taken_ms: list[float]
    seconds: float
    busy: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.taken_ms) / self.seconds


class Connection:
    """One kept connection, with one request at a time.

    Attributes:
        since: Time at which the current request was sent, or due (`time.perf_counter`).
    """

    def __init__(self, url: str) -> None:
        """Connect to `url`, http://host:port."""
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self.since = 0.0

    def fileno(self) -> int:
        """Return the file descriptor, for `select`."""
        return self._socket.fileno()

    def send(self, request: bytes, since: float) -> None:
        """Send a whole request, whose time counts from `since`."""
        self.since = since
        self._socket.sendall(request)

    def receive(self) -> bytes | None:
        """Read the bytes that have come; return the body once it is complete, None before.

        Raises:
            LoadError: The status is not 200, or the server closed the connection.
        """
        data = self._socket.recv(_CHUNK)
        if not data:
            raise LoadError("the server closed a connection before it had answered")
        self._received += data
        head, found, body = self._received.partition(_HEAD_ENDS)
        if not found:
            return None
        length = _LENGTH.search(head + b"\r\n")
        if len(body) < (int(length[1]) if length else 0):
            return None
        self._received = bytearray()
        if not head.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"the server answered {head.splitlines()[0].decode()}: {bytes(body[:200])!r}")
        return bytes(body)

    def exchange(self, request: bytes) -> bytes:
        """Send a whole request, return the body of its answer.

        Raises:
            LoadError: As in `receive`, or there was no answer in time.
        """
        self.send(request, time.perf_counter())
        while True:
            _readable([self], TIMEOUT_S)
            if (body := self.receive()) is not None:
                return body

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextmanager
def connections(url: str, count: int) -> Iterator[list[Connection]]:
    """Open `count` connections to `url`, and close them at the end."""
    pool: list[Connection] = []
    try:
        for _ in range(count):
            pool.append(Connection(url))
        yield pool
    finally:
        for connection in pool:
            connection.close()


def http_request(path: str, body: bytes | None = None, headers: str = "") -> bytes:
    """Make the bytes of a GET, or of a POST of `body`; `headers` are whole lines."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: bench\r\n{headers}"
    return head.encode() + (b"\r\n" if body is None else b"content-length: %d\r\n\r\n%b" % (len(body), body))


def closed_loop(pool: Sequence[Connection], requests: Iterable[bytes], seconds: float) -> Load:
    """Load the server for `seconds`: every connection sends a request as soon as it has its answer.

    Raises:
        LoadError: As in `Connection.receive`, or there was no answer in time.
    """
    taken: list[float] = []
    turn, waiting = cycle(requests), list(pool)
    begin, computing = time.perf_counter(), time.process_time()
    for connection in pool:
        connection.send(next(turn), time.perf_counter())
    while waiting:
        for connection in _readable(waiting, TIMEOUT_S):
            if connection.receive() is None:
                continue
            now = time.perf_counter()
            taken.append(1e3 * (now - connection.since))
            if now < begin + seconds:
                connection.send(next(turn), now)
            else:
                waiting.remove(connection)
    seconds = time.perf_counter() - begin
    return Load(taken, seconds, (time.process_time() - computing) / seconds)


def open_loop(pool: Sequence[Connection], requests: Iterable[bytes], rate: float, seconds: float) -> Load:
    """Load the server with requests at a fixed rate, and count their time from the moment when they are due.

    The rate does not depend on the server. The time of a request includes its wait for a free connection, so
    no wait is left out because the server was slow (no coordinated omission).

    Args:
        pool: Connections; their number limits the requests under way.
        requests: Sent in turn, and from the first again after the last.
        rate: Requests a second.
        seconds: Length of the load.

    Raises:
        LoadError: As in `Connection.receive`, or there was no answer in time.
    """
    taken: list[float] = []
    turn, free, waiting = cycle(requests), deque(pool), list[Connection]()
    begin, computing = time.perf_counter(), time.process_time()
    dues = deque(begin + number / rate for number in range(max(1, int(rate * seconds))))
    while dues or waiting:
        while dues and free and dues[0] <= time.perf_counter():
            connection = free.popleft()
            connection.send(next(turn), dues.popleft())
            waiting.append(connection)
        patience = max(0.0, dues[0] - time.perf_counter()) if dues and free else TIMEOUT_S
        for connection in _readable(waiting, patience, or_none=bool(dues and free)):
            if connection.receive() is not None:
                taken.append(1e3 * (time.perf_counter() - connection.since))
                waiting.remove(connection)
                free.append(connection)
    seconds = time.perf_counter() - begin
    return Load(taken, seconds, (time.process_time() - computing) / seconds)


def _readable(waiting: Sequence[Connection], seconds: float, or_none: bool = False) -> list[Connection]:
    """Return the connections with new data. Epoll is not used, since it waits for whole milliseconds."""
    ready: list[Connection] = select.select(waiting, (), (), seconds)[0]
    if not ready and not or_none:
        raise LoadError(f"the server gave no answer within {seconds:.0f} s")
    return ready
