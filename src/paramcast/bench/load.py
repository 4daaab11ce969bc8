"""A load generator that is not the bottleneck: HTTP/1.1 over kept connections, requests made beforehand."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from paramcast.errors import ParamcastError

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class LoadError(ParamcastError):
    """The server under load gave something else than an answer of status 200."""


class Connection:
    """One kept connection, one request at a time. asyncio switches Nagle's algorithm off on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> Connection:
        """Connect to `url`, http://host:port."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=2**20))

    async def exchange(self, request: bytes) -> bytes:
        """Send a whole request, return the body of its answer.

        Raises:
            LoadError: The status is not 200.
        """
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self._reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"the server answered {head.splitlines()[0].decode()}: {body[:200]!r}")
        return body

    def close(self) -> None:
        """Close it."""
        self._writer.close()


def http_request(body: bytes) -> bytes:
    """The bytes of POST /v1/adapt with `body`."""
    head = f"POST /v1/adapt HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def closed_loop(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> list[float]:
    """Every connection sends as soon as it has its answer, for so many seconds; milliseconds of each."""
    pool = [await Connection.open(url) for _ in range(connections)]
    end = time.perf_counter() + seconds
    taken: list[float] = []

    async def work(place: int) -> None:
        turn = place
        while (start := time.perf_counter()) < end:
            await pool[place].exchange(requests[turn % len(requests)])
            taken.append(1e3 * (time.perf_counter() - start))
            turn += connections

    await asyncio.gather(*map(work, range(connections)))
    for connection in pool:
        connection.close()
    return taken


async def open_loop(
    url: str, requests: Sequence[bytes], connections: int, rate: float, seconds: float
) -> list[float]:
    """Requests are due at a fixed rate whatever the server does; milliseconds from when each was due.

    A request that waits for a free connection is waiting already: nothing is left out because the server was
    slow (no coordinated omission).

    Args:
        url: Of the server.
        requests: Sent in turn.
        connections: At most so many at once.
        rate: Requests a second.
        seconds: For so long.
    """
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection.open(url))
    begin = time.perf_counter()
    taken: list[float] = []

    async def send(number: int, due: float) -> None:
        connection = await free.get()
        await connection.exchange(requests[number % len(requests)])
        taken.append(1e3 * (time.perf_counter() - due))
        free.put_nowait(connection)

    async with asyncio.TaskGroup() as tasks:
        for number in range(max(1, int(rate * seconds))):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(send(number, due))
    while not free.empty():
        free.get_nowait().close()
    return taken
