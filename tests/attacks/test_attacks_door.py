"""Strangers before the service's door: slow, unfinished, large and many requests, and those of nobody."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP

from paramcast.protocol import AdaptRequest, SigningKey, authorize, make_key, new_nonce, public_key_hex
from paramcast.protocol.credentials import prove_key
from paramcast.server import Database, RequestGuard, create_app, door, fleet_routes, health
from paramcast.server.batching import Batcher, OverloadedError
from paramcast.server.db import identities
from paramcast.server.launch import Launched
from paramcast.server.listening import http_server, opened_internal, opened_listener, url_of
from paramcast.server.settings import Settings

KEY, DEVICE_KEY = make_key(), make_key()
HALF = b"POST /v1/adapt HTTP/1.1\r\nHost: x\r\nx-a: "
UNFINISHED = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\ncontent-length: 200000\r\n\r\n" + b"x" * 1000


class Held(TinyBackend):
    """Its work waits until it is let through."""

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
    """As `paramcast serve` serves: URL, internal URL and the server."""
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
    """Opens connections that say something, and closes them at the end."""
    with ExitStack() as stack:

        def opened(url: str, said: bytes = b"") -> socket.socket:
            parts = urlsplit(url)
            one = stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=20))
            one.sendall(said)
            return one

        yield opened


def ended(connection: socket.socket) -> bool:
    """Whether the service closes it, before the test's patience ends."""
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


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


def test_unsigned_requests_to_a_closed_service_take_no_place() -> None:
    """They are refused by their head alone: also while the queue is full, and before a body is there."""
    backend = Held()
    with serving(closed_app(backend, waiting_room=2)) as url, ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(adapt, url)]
        assert backend.entered.wait(30)
        for _ in range(20):
            reply = httpx2.post(f"{url}/v1/adapt", content=request())
            assert (reply.status_code, reply.json()["code"]) == (401, "unsigned")
        forged = header(request(), key=make_key())
        reply = adapt(url, request(), **forged)
        assert (reply.status_code, reply.json()["code"]) == (401, "forged")
        replies.append(
            pool.submit(adapt, url, request("cam-2"), **header(request("cam-2"), "cam-2", DEVICE_KEY2))
        )
        backend.open.set()
        assert [reply.result(30).status_code for reply in replies] == [200, 200]
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as one:
            one.sendall(b"POST /v1/adapt HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 401")


def test_a_device_over_its_rate_takes_no_place() -> None:
    backend = Held()
    rules = {"rate_per_minute": 0.1, "burst": 1}
    with serving(closed_app(backend, waiting_room=4, rules=rules)) as url, ThreadPoolExecutor(8) as pool:
        backend.open.set()
        assert adapt(url).status_code == 200
        backend.open.clear()
        backend.entered.clear()
        other = request("cam-2")
        waits = pool.submit(adapt, url, other, **header(other, "cam-2", DEVICE_KEY2))
        assert backend.entered.wait(30)
        assert adapt(url).status_code == 429  # although nothing is worked on
        backend.open.set()
        assert waits.result(30).status_code == 200


def test_lines_take_turns_and_the_longest_gives_way() -> None:
    import asyncio

    order: list[str] = []
    gate = threading.Event()

    def work(names: Any) -> list[str]:
        gate.wait(30)
        order.extend(names)
        return list(names)

    async def main() -> list[Any]:
        batcher: Batcher[str, str] = Batcher(work, largest=2, room=6)
        first = asyncio.create_task(batcher.ask("first", "x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it is being worked on
        greedy = [asyncio.create_task(batcher.ask(f"greedy-{n}", "greedy")) for n in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await batcher.ask("greedy-6", "greedy")
        modest = [asyncio.create_task(batcher.ask(f"modest-{n}", f"modest-{n}")) for n in range(2)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, *greedy, *modest, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [type(outcome).__name__ for outcome in outcomes[5:7]] == ["OverloadedError"] * 2
    assert order[:1] == ["first"]
    assert order[1:5] == ["greedy-0", "modest-0", "modest-1", "greedy-1"]


def test_health_checks_of_many_are_one_and_take_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "KEPT_S", 60.0)
    backend = Held()
    with serving(closed_app(backend, waiting_room=2)) as url, ThreadPoolExecutor(40) as pool:
        replies = [pool.submit(httpx2.get, f"{url}/healthz", timeout=30) for _ in range(30)]
        assert backend.entered.wait(30)
        mine = [pool.submit(adapt, url)]
        backend.open.set()
        assert {reply.result(30).status_code for reply in replies} == {200}
        assert [reply.result(30).status_code for reply in mine] == [200]
        assert {httpx2.get(f"{url}/readyz").status_code for _ in range(3)} == {200}
    probes = [name for batch in backend.batches for name in batch if name == "healthz"]
    assert len(probes) == 1


def test_a_large_request_does_not_make_its_batch_large() -> None:
    """What is generated together is of one size, up to a power of two."""
    backend = Held()
    sizes: list[set[int]] = []
    made = backend.generate
    backend.generate = lambda requests: (  # type: ignore[method-assign]
        sizes.append({len(one.anchors) for one in requests}) or made(requests)
    )
    app = create_app(backend, KEY)
    with serving(app) as url, ThreadPoolExecutor(40) as pool:
        replies = [pool.submit(httpx2.post, f"{url}/v1/adapt", content=request("first"), timeout=30)]
        assert backend.entered.wait(30)
        for place, clips in enumerate([2] * 6 + [16] * 2 + [256, 20, 32]):
            replies.append(
                pool.submit(httpx2.post, f"{url}/v1/adapt", content=request(f"d{place}", clips), timeout=30)
            )
        while app.live._waiting() < 11:
            time.sleep(0.001)
        backend.open.set()
        assert {reply.result(30).status_code for reply in replies} == {200}
    assert sorted(map(sorted, sizes[1:])) == [[2, 16], [20, 32], [256]]


def test_a_large_request_uses_up_more_of_the_rate() -> None:
    body = request(clips=256)
    rules = {"rate_per_minute": 0.1, "burst": 3}
    with serving(closed_app(rules=rules)) as url:
        assert len(body) < 16384
        for _ in range(3):
            assert adapt(url, body, **header(body)).status_code == 200
        assert adapt(url, body, **header(body)).status_code == 429
    guard = RequestGuard(rate_per_minute=60, burst=10)
    assert guard._spent(0, 10**9, 5.0) == 10**9 + 5 * 10**6
    assert guard._spent(0, 10**9, 500.0) == 10**9 + 10 * 10**6  # else it could never be asked


def test_guesses_of_tokens_are_limited_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_routes, "_ENROLMENTS_A_MINUTE", 0.1)
    monkeypatch.setattr(fleet_routes, "_ENROLMENTS_AT_ONCE", 3)
    body = {
        "token": "guess",
        "device": "cam-9",
        "public_key": public_key_hex(DEVICE_KEY),
        "proof": prove_key(DEVICE_KEY, "cam-9", "guess"),
    }
    with serving(closed_app()) as url, httpx2.Client() as client:
        statuses = [client.post(f"{url}/v1/enrol", json=body).status_code for _ in range(5)]
        assert statuses == [403] * 3 + [429] * 2
        assert adapt(url).status_code == 200


def test_a_header_that_says_who_asks_may_be_sent_once() -> None:
    body = request()
    with serving(closed_app()) as url:
        good = header(body)["authorization"]
        for path in ("/v1/adapt", "/v1/feedback", "/v1/operator/models"):
            twice = [("authorization", good), ("authorization", "Bearer x")]
            assert httpx2.post(url + path, content=body, headers=twice).status_code == 400


def test_what_is_for_operators_is_answered_at_the_internal_address_alone() -> None:
    inner_routes = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/operator/me")
    with served(closed_app(), internal_port=0) as (url, inside, _):
        for path in inner_routes:
            assert httpx2.get(url + path).status_code == 404
            assert httpx2.get(inside + path).status_code == (401 if "operator" in path else 200)
        assert httpx2.get(f"{url}/v1/keys").status_code == 200
        assert adapt(url).status_code == 200
    with served(closed_app()) as (url, inside, _):
        assert inside == ""
        assert httpx2.get(f"{url}/healthz").status_code == 200


def test_few_descriptors_are_not_used_up_by_connections(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (128, 128))
    with served(closed_app()) as (url, _, _):
        many = [connect(url, HALF) for _ in range(60)]
        assert adapt(url).status_code == 200
        assert ended(many[0])


def test_every_answer_of_every_route_lets_nothing_in_from_elsewhere() -> None:
    """Pages name no other origin, and each answer has the headers that forbid it."""
    app = closed_app()
    paths = {getattr(route, "path", "") for route in _routes(app)} | {"/docs", "/redoc", "/none", "/v1/adapt"}
    with serving(app) as url, httpx2.Client(base_url=url) as client:
        for path in sorted(paths - {""}):
            if path.endswith("/live"):
                continue  # without a token it is a 401 as the others are
            filled = (
                path.replace("{device}", "cam-1").replace("{model}", "a" * 64).replace("{digest}", "b" * 64)
            )
            for method in ("GET", "POST"):
                reply = client.request(method, filled.replace("{name}", "none"))
                policy = reply.headers["content-security-policy"]
                assert "default-src 'none'" in policy, (method, path)
                assert "http" not in policy, (method, path)
                assert reply.headers["x-content-type-options"] == "nosniff", (method, path)
                if "html" in reply.headers.get("content-type", ""):
                    assert "://" not in reply.text.replace("http://www.w3.org", ""), path
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
        oversize = client.post("/v1/adapt", content=bytes(300_000), headers=header(b""))
        assert "content-security-policy" in oversize.headers
        assert json.loads(client.get("/openapi.json").text)["paths"]


def _routes(app: Any) -> list[Any]:
    return [*app.router.routes]
