"""Strangers before the service's door: slow, unfinished and large requests, and many connections."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from bundles import IMAGE_UP, MODEL, TEXT_UP
from doors import (
    HALF,
    UNFINISHED,
    adapt,
    closed_app,
    ended,
    header,
    served,
)
from doors import connect as connect  # a fixture

from paramcast.protocol import AdaptRequest
from paramcast.server import door
from paramcast.server.admin.page import STATIC


@pytest.mark.parametrize("said", [b"", HALF, UNFINISHED], ids=["nothing", "half a head", "half a body"])
def test_a_connection_has_a_whole_request_in_time_or_is_closed(
    connect: Any, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(door, "HEAD_S", 0.2)
    monkeypatch.setattr(door, "BODY_S", 0.2)
    with served(closed_app()) as (url, _, _):
        many = [connect(url, said) for _ in range(20)]
        assert all(ended(one) for one in many)
        assert adapt(url).status_code == 200
        with httpx2.Client(base_url=url) as client:  # a second half request on a connection that was served
            assert client.get("/v1/keys").status_code == 200
        again = connect(url, b"GET /v1/keys HTTP/1.1\r\nHost: x\r\n\r\n" + HALF)
        assert ended(again)


@pytest.mark.parametrize(
    "head",
    [b"x-a: " + b"a" * 300_000, b"".join(b"x-%d: a\r\n" % n for n in range(3000))],
    ids=["one line", "many lines"],
)
def test_a_head_is_small(connect: Any, head: bytes) -> None:
    with served(closed_app()) as (url, _, _):
        one = connect(url)
        with suppress(ConnectionError):  # it may be closed before all of it is sent
            one.sendall(b"GET /v1/keys HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        answered = b""
        with suppress(ConnectionError):
            answered = one.recv(100)
        assert not answered.startswith(b"HTTP/1.1 200")
        assert adapt(url).status_code == 200


def test_a_handshake_begins_in_time_or_is_given_up(
    connect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(door, "HEAD_S", 0.5)
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=cloud", "-days", "2"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    key.chmod(0o600)
    with served(closed_app(), tls_certificate=certificate, tls_key=key) as (url, _, _):
        one, begun = connect(url), time.monotonic()
        assert ended(one)
        assert time.monotonic() - begun < 15  # not the minute of asyncio
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert httpx2.get(f"{url}/v1/keys", verify=trusting, timeout=30).status_code == 200


def test_what_is_no_http_is_answered_with_the_headers_of_every_answer(connect: Any) -> None:
    with served(closed_app()) as (url, _, _):
        one = connect(url, b"nonsense\r\n\r\n")
        answered = b"".join(iter(lambda: one.recv(4096), b"")).decode()
    head, _, told = answered.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert f"content-length: {len(told)}" in head
    assert "content-security-policy: default-src 'none'" in head


def test_a_large_request_may_come_in_one_piece(connect: Any) -> None:
    anchors, queries = np.ones((256, IMAGE_UP), "f4"), np.ones((2048, TEXT_UP), "f4")
    body = AdaptRequest("cam-1", MODEL, 0, anchors, queries, np.arange(2048) % 256).encode()
    head = f"POST /v1/adapt HTTP/1.1\r\nHost: x\r\ncontent-length: {len(body)}\r\n"
    head += f"authorization: {header(body)['authorization']}\r\n\r\n"
    assert len(body) > door.MAX_HEAD_BYTES
    with served(closed_app()) as (url, _, _):
        one = connect(url, head.encode() + body)
        assert one.recv(100).startswith(b"HTTP/1.1 200")


def test_whoever_holds_connections_does_not_keep_a_device_out(connect: Any) -> None:
    with served(closed_app(), connections=16) as (url, _, _):
        for said in (b"", HALF, UNFINISHED):
            many = [connect(url, said) for _ in range(40)]
            assert adapt(url).status_code == 200
            assert ended(many[0])  # who has waited longest went first


def test_bytes_of_unfinished_bodies_are_bounded(connect: Any) -> None:
    with served(closed_app(), waiting_room=1) as (url, _, _):  # 256 KiB
        many = [connect(url, UNFINISHED + b"x" * 100_000) for _ in range(5)]
        assert ended(many[0])
        assert adapt(url).status_code == 200


def test_an_end_does_not_wait_for_requests_that_never_come_whole(connect: Any) -> None:
    with served(closed_app(), drain_s=30) as (url, _, server):
        many = [connect(url, said) for said in (b"", HALF, UNFINISHED) for _ in range(5)]
        assert adapt(url).status_code == 200
        begin = time.monotonic()
        server.should_exit = True
        assert all(ended(one) for one in many)
        assert time.monotonic() - begin < 10


def test_an_answer_that_nobody_reads_holds_few_bytes_and_ends(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each such connection held 23 MB, a file of the page: 170 of them reached the 4 GB of the unit."""
    written: list[int] = []
    lost = threading.Event()

    class Watched(door.DoorProtocol):
        def pause_writing(self) -> None:
            super().pause_writing()
            written.append(self.transport.get_write_buffer_size())

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    monkeypatch.setattr(door, "DoorProtocol", Watched)
    monkeypatch.setattr(door, "READ_S", 0.5)
    largest = max((STATIC / "assets").iterdir(), key=lambda path: path.stat().st_size)
    name = largest.name.removesuffix(".gz")
    with served(closed_app()) as (url, _, _):
        connect(url, f"GET /assets/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert lost.wait(30)
        assert 0 < max(written) < 300_000
        whole, packed = (
            httpx2.get(f"{url}/assets/{name}", headers={"accept-encoding": coding}, timeout=30)
            for coding in ("identity", "gzip")
        )
        assert packed.headers["content-encoding"] == "gzip"
        assert whole.content == packed.content
        assert len(whole.content) == int(whole.headers["content-length"])
