"""Limits of connections: how long they may stay open without a complete request, and how much they may hold.

A connection must deliver a complete request within seconds, and read its answer, or it is closed. If there
are too many connections, or too many bytes of incomplete requests, the service closes connections of the
address that has most of them: first those without a complete request, the oldest first. So a device with a
complete request finds room even under an attack.
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
"""Seconds from the end of a request's head to the end of its body, which has at most 256 KiB."""

READ_S = 30.0
"""Seconds in which a client must read enough of its answer that more can be sent: about 48 KiB."""

MAX_HEAD_BYTES = 16 * 1024


class Door:
    """Shared limits and counts of all connections of a server.

    Attributes:
        most: Largest number of connections at a time.
        most_bytes: Largest number of bytes of incomplete requests.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        """Begin without connections."""
        self.most, self.most_bytes = most, most_bytes
        self._open = self._bytes = 0
        # By address: all connections, and the connections without a complete request; the oldest first.
        self._here: defaultdict[str, dict[DoorProtocol, None]] = defaultdict(dict)
        self._unfinished: defaultdict[str, dict[DoorProtocol, None]] = defaultdict(dict)

    def came(self, connection: DoorProtocol) -> None:
        """Count a new connection, which has no request yet; close others if there are too many."""
        self._open += 1
        self._here[connection.address][connection] = None
        self.waits(connection)
        while self._open > self.most:
            address = max(self._here, key=lambda one: len(self._here[one]))
            # If all have a complete request, one of the very many connections of that address is closed.
            mine = self._unfinished.get(address) or self._here[address]
            next(iter(mine)).give_up()

    def went(self, connection: DoorProtocol) -> None:
        """Count a connection as closed."""
        self._open -= 1
        self.waits_no_more(connection)
        _take(self._here, connection)

    def waits(self, connection: DoorProtocol) -> None:
        """Mark a connection as one without a complete request."""
        self._unfinished[connection.address][connection] = None

    def waits_no_more(self, connection: DoorProtocol) -> None:
        """Mark a connection as one with a complete request, or as closed."""
        _take(self._unfinished, connection)

    def hold(self, size: int) -> None:
        """Count `size` bytes of an incomplete body, or release them if `size` is negative."""
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
    """A connection of uvicorn with time limits."""

    door: ClassVar[Door]

    def connection_made(self, transport: Any) -> None:
        """Start to wait for a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._head_bytes = self._held = 0
        self._in_head = True
        self._here = True
        self._hurry(HEAD_S)
        self.door.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's bytes and its place."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; refuse the request if its head is too large."""
        if not self._here:
            return
        if self._in_head and self._timer is None:
            self._hurry(HEAD_S)
        self._was_whole = False
        super().data_received(data)
        # Bytes that end a request belong to this request, and do not count as the head of the next one.
        if self._in_head and not self._was_whole:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP, with the headers of every answer."""
        head = ["HTTP/1.1 400 Bad Request", "content-type: text/plain; charset=utf-8"]
        head += [f"content-length: {len(msg)}", "connection: close"]
        head += [f"{name.decode()}: {value.decode()}" for name, value in SECURITY.items()]
        self.transport.write("\r\n".join([*head, "", msg]).encode("ascii"))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Start to wait for the body."""
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too large")  # which uvicorn answers with 400
        self._in_head, self._head_bytes = False, 0
        self._hurry(BODY_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        super().on_body(body)
        self._held += len(body)
        self.door.hold(len(body))

    def on_message_complete(self) -> None:
        """Stop the time limit: the request is complete and now waits for the service."""
        self._relax()
        self.door.hold(-self._held)
        self._held = 0
        self.door.waits_no_more(self)
        self._in_head = self._was_whole = True
        super().on_message_complete()
        if self.cycle.response_complete:  # it was refused before it was complete
            self.door.waits(self)
            self._hurry(HEAD_S)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._here and not self.transport.is_closing():
            self.door.waits(self)

    def pause_writing(self) -> None:
        """Wait for the client to read; close the connection if it does not."""
        super().pause_writing()
        if self._unread is None and self._here:
            self._unread = self.loop.call_later(READ_S, self.give_up)

    def resume_writing(self) -> None:
        """Send more: the client has read."""
        super().resume_writing()
        self._has_read()

    def shutdown(self) -> None:
        """Close after the current answer; at once if the request is incomplete."""
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
            self._has_read()
            self.door.hold(-self._held)
            self.door.went(self)

    def _hurry(self, seconds: float) -> None:
        self._relax()
        self._timer = self.loop.call_later(seconds, self.give_up)

    def _relax(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _has_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def protocol_for(door: Door) -> type[DoorProtocol]:
    """Make the protocol class of a server with this door, for `uvicorn.Config(http=...)`."""
    return type("DoorProtocol", (DoorProtocol,), {"door": door})
