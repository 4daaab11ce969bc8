"""The door of the service: what whoever connects may keep open, and how large it may be.

A connection has a whole request within seconds or is closed. Where there are too many connections, or too
many bytes of requests that are not whole yet, those go first that have waited longest, of the address that
has most of them. So a device that comes with a whole request finds room, however many strangers are there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from paramcast.server.answers import SECURITY

HEAD_S = 10.0
"""Seconds from a request's first byte, or the connection's beginning, to the end of its head."""

BODY_S = 20.0
"""Seconds from there to the end of its body, which has at most 256 KiB."""

MAX_HEAD_BYTES = 16 * 1024


class Door:
    """What all connections of a server share.

    Attributes:
        most: Connections at a time.
        most_bytes: Of requests that are not whole yet.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        """Nobody is here yet."""
        self.most, self.most_bytes = most, most_bytes
        self._open = self._bytes = 0
        # Of each address: connections, the oldest first; and those without a whole request.
        self._here: defaultdict[str, dict[DoorProtocol, None]] = defaultdict(dict)
        self._unfinished: defaultdict[str, dict[DoorProtocol, None]] = defaultdict(dict)

    def came(self, connection: DoorProtocol) -> None:
        """One connection more, which has no request yet."""
        self._open += 1
        self._here[connection.address][connection] = None
        self.waits(connection)
        while self._open > self.most:
            address = max(self._here, key=lambda one: len(self._here[one]))
            # With a whole request it is one of very many of that address.
            mine = self._unfinished.get(address) or self._here[address]
            next(iter(mine)).give_up()

    def went(self, connection: DoorProtocol) -> None:
        """One less."""
        self._open -= 1
        self.waits_no_more(connection)
        _take(self._here, connection)

    def waits(self, connection: DoorProtocol) -> None:
        """It has no whole request."""
        self._unfinished[connection.address][connection] = None

    def waits_no_more(self, connection: DoorProtocol) -> None:
        """It has a whole request, or is gone."""
        _take(self._unfinished, connection)

    def hold(self, size: int) -> None:
        """Hold bytes of a body that is not whole, or let them go where `size` is negative."""
        self._bytes += size
        while size > 0 and self._bytes > self.most_bytes and self._unfinished:
            address = max(self._unfinished, key=lambda one: len(self._unfinished[one]))
            next(iter(self._unfinished[address])).give_up()


def _take(table: defaultdict[str, dict[DoorProtocol, None]], connection: DoorProtocol) -> None:
    mine = table[connection.address]
    mine.pop(connection, None)
    if not mine:
        del table[connection.address]


class DoorProtocol(HttpToolsProtocol):
    """A connection of uvicorn that has to get on with it."""

    door: ClassVar[Door]

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = self._held = 0
        self._in_head = True
        self._here = True
        self._hurry(HEAD_S)
        self.door.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what it held."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the head has too many."""
        if not self._here:
            return
        if self._in_head and self._timer is None:
            self._hurry(HEAD_S)
        self._was_whole = False
        super().data_received(data)
        # Bytes in which a request ended are that request's, not the next one's head.
        if self._in_head and not self._was_whole:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, with the headers that every answer has."""
        head = ["HTTP/1.1 400 Bad Request", "content-type: text/plain; charset=utf-8"]
        head += [f"content-length: {len(msg)}", "connection: close"]
        head += [f"{name.decode()}: {value.decode()}" for name, value in SECURITY.items()]
        self.transport.write("\r\n".join([*head, "", msg]).encode("ascii"))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too large")  # which uvicorn answers with 400
        self._in_head, self._head_bytes = False, 0
        self._hurry(BODY_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what is held of it."""
        super().on_body(body)
        self._held += len(body)
        self.door.hold(len(body))

    def on_message_complete(self) -> None:
        """The request is whole: it waits for the service now, not the service for it."""
        self._relax()
        self.door.hold(-self._held)
        self._held = 0
        self.door.waits_no_more(self)
        self._in_head = self._was_whole = True
        super().on_message_complete()
        if self.cycle.response_complete:  # it was refused before it was whole
            self.door.waits(self)
            self._hurry(HEAD_S)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._here and not self.transport.is_closing():
            self.door.waits(self)

    def shutdown(self) -> None:
        """End after the answer that is under way; at once if the request has not come whole."""
        if self._timer is not None:
            self.give_up()
        else:
            super().shutdown()

    def give_up(self) -> None:
        """Close without an answer."""
        self._leave()
        self.transport.abort()

    def _leave(self) -> None:
        if self._here:
            self._here = False
            self._relax()
            self.door.hold(-self._held)
            self.door.went(self)

    def _hurry(self, seconds: float) -> None:
        self._relax()
        self._timer = self.loop.call_later(seconds, self.give_up)

    def _relax(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol_for(door: Door) -> type[DoorProtocol]:
    """The protocol of a server with this door: `uvicorn.Config(http=...)`."""
    return type("DoorProtocol", (DoorProtocol,), {"door": door})
