"""A closed service with two enrolled devices, and helpers that connect to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from backends import TinyBackend
from bundles import IMAGE_UP, MODEL, TEXT_UP

from paramcast.protocol import AdaptRequest, SigningKey, authorize, make_key, new_nonce, public_key_hex
from paramcast.server import Database, RequestGuard, create_app
from paramcast.server.db import identities
from paramcast.server.launch import Launched
from paramcast.server.listening import http_server, opened_internal, opened_listener, url_of
from paramcast.server.settings import Settings

KEY, DEVICE_KEY = make_key(), make_key()
HALF = b"POST /v1/adapt HTTP/1.1\r\nHost: x\r\nx-a: "
UNFINISHED = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\ncontent-length: 200000\r\n\r\n" + b"x" * 1000


class Held(TinyBackend):
    """A backend that waits in `generate` until the test sets `open`."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.open = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        self.batches.append([request.device for request in requests])
        self.entered.set()
        assert self.open.wait(30)
        return super().generate(requests)


def enrolling(devices: dict[str, SigningKey]) -> Database:
    database = Database.temporary()
    with database.writing() as connection:
        for device, key in devices.items():
            token = identities.new_enrolment(connection, device, 0, 10**15)
            identities.enrol(connection, token, device, public_key_hex(key), 1)
    return database


def closed_app(backend: TinyBackend | None = None, **options: Any) -> Any:
    database = enrolling({"cam-1": DEVICE_KEY, "cam-2": DEVICE_KEY2})
    gate = RequestGuard(required=True, **options.pop("rules", {}))
    return create_app(backend or TinyBackend(), KEY, database=database, gate=gate, **options)


DEVICE_KEY2 = make_key()


def request(device: str = "cam-1", clips: int = 2) -> bytes:
    anchors, queries = np.ones((clips, IMAGE_UP), "f4"), np.ones((clips, TEXT_UP), "f4")
    return AdaptRequest(device, MODEL, 0, anchors, queries, np.arange(clips)).encode()


def header(body: bytes, device: str = "cam-1", key: SigningKey = DEVICE_KEY) -> dict[str, str]:
    at, nonce = time.time_ns() // 1000, new_nonce()
    signed = authorize(
        key, device=device, method="POST", path="/v1/adapt", body=body, time_us=at, nonce=nonce
    )
    return {"authorization": signed}


def adapt(url: str, body: bytes | None = None, **headers: str) -> httpx2.Response:
    body = body or request()
    return httpx2.post(f"{url}/v1/adapt", content=body, headers=headers or header(body), timeout=30)


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[tuple[str, str, Any]]:
    """Serve like `paramcast serve`; yield the URL, the internal URL and the server."""
    made = Settings.gather(None, port=0, **settings)
    ready = threading.Event()
    launched = Launched(app, app.service, public_key_hex(KEY), app.live.end)
    with opened_listener("127.0.0.1", 0) as listener, opened_internal(made) as internal:
        server = http_server(launched, made, ready.set, internal)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(30)
            yield url_of(listener, made), url_of(internal) if internal else "", server
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def connect() -> Iterator[Callable[[str, bytes], socket.socket]]:
    """Return a function that opens a connection and sends bytes; close the connections at the end."""
    with ExitStack() as stack:

        def opened(url: str, said: bytes = b"") -> socket.socket:
            parts = urlsplit(url)
            one = stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=20))
            one.sendall(said)
            return one

        yield opened


def ended(connection: socket.socket) -> bool:
    """Wait until the service closes the connection; the connection's timeout raises TimeoutError."""
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True
