"""A proxy between devices and the server that damages the bytes."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

FAULTS = ("delay", "cut", "duplicate", "reorder", "corrupt")
PIECE = 200
"""Number of bytes that get the same fault. A request or an update of the tests has several such pieces."""

Send = Callable[[bytes], object]


class Proxy:
    """Forwards connections in both directions, with faults in some of the bytes.

    Attributes:
        faults: Some of `FAULTS`; tests may change them while the proxy runs.
        share: Share of the pieces with a fault.
        done: Fault -> how often it was done.
        recorded: The bytes that devices sent on each connection, without faults.
    """

    def __init__(self, upstream: str, seed: int) -> None:
        parts = urlsplit(upstream)
        self._upstream = (str(parts.hostname), int(parts.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._random, self._stop = random.Random(seed), threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.faults: tuple[str, ...] = ()
        self.share = 0.1
        self.done = dict.fromkeys(FAULTS, 0)
        self.recorded: list[bytearray] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                device, _ = self._listener.accept()
                cloud = socket.create_connection(self._upstream)
                self._open |= {device, cloud}
                self.recorded.append(bytearray())
                self._run(self._pump, device, cloud, self.recorded[-1])
                self._run(self._pump, cloud, device, None)

    def _pump(self, source: socket.socket, target: socket.socket, record: bytearray | None) -> None:
        held = b""  # a piece that is sent after the next piece
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if record is not None:
                    record += data
                for first in range(0, len(data), PIECE):
                    held = self._pass(data[first : first + PIECE], held, target.sendall)
                target.sendall(held)
                held = b""
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass(self, piece: bytes, held: bytes, send: Send) -> bytes:
        """Send a piece and the piece that was held before; return the piece to hold now."""
        faults = self.faults
        fault = self._random.choice(faults) if faults and self._random.random() < self.share else ""
        if fault:
            self.done[fault] += 1
        if fault == "cut":
            raise ConnectionResetError
        if fault == "delay":
            self._stop.wait(self._random.uniform(0, 0.02))
        if fault == "corrupt":
            place, bit = self._random.randrange(len(piece)), 1 << self._random.randrange(8)
            piece = piece[:place] + bytes([piece[place] ^ bit]) + piece[place + 1 :]
        if fault == "reorder" and not held:
            return piece
        send(piece + held + (piece if fault == "duplicate" else b""))
        return b""

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        for end in self._open:
            end.close()


@contextmanager
def proxied(upstream: str, seed: int) -> Iterator[Proxy]:
    """Run a proxy in front of `upstream`, and close it at the end."""
    proxy = Proxy(upstream, seed)
    proxy._run(proxy._accept)
    try:
        yield proxy
    finally:
        proxy.close()
