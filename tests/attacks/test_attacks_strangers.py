"""Strangers at the service: requests of nobody, false ones, too many; what they may see and load."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from backends import TinyBackend, serving
from doors import (
    DEVICE_KEY,
    DEVICE_KEY2,
    HALF,
    KEY,
    Held,
    adapt,
    closed_app,
    ended,
    header,
    request,
    served,
)
from doors import connect as connect  # a fixture

from paramcast.protocol import make_key, public_key_hex
from paramcast.protocol.credentials import prove_key
from paramcast.server import RequestGuard, create_app, fleet_routes, health
from paramcast.server.batching import Batcher, OverloadedError
from paramcast.server.request_guard import Patience


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
        assert (reply.status_code, reply.json()["code"]) == (401, "unknown")
        replies.append(
            pool.submit(adapt, url, request("cam-2"), **header(request("cam-2"), "cam-2", DEVICE_KEY2))
        )
        backend.open.set()
        assert [reply.result(30).status_code for reply in replies] == [200, 200]
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as one:
            one.sendall(b"POST /v1/adapt HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 401")


def test_false_signatures_take_no_turn_to_write() -> None:
    """On the routes that are no batch: they are refused while somebody else writes to the state."""
    stranger = make_key()
    named = {"public_key": public_key_hex(stranger), "proof": prove_key(stranger, "cam-1", "next")}
    app = closed_app()
    with serving(app) as url, app.service.database.writing():
        for path, told in (("/v1/feedback", {"sequence": 1, "applied": True}), ("/v1/key", named)):
            body = json.dumps(told).encode()
            reply = httpx2.post(url + path, content=body, headers=header(body, key=stranger), timeout=5)
            assert (reply.status_code, reply.json()["code"]) == (401, "unknown"), path


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
    assert len(probes) == 3  # of one look


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


def test_who_asks_unsigned_too_fast_waits_and_devices_do_not() -> None:
    now = [0.0]
    patience = Patience(per_s=10, burst=5, longest_s=2, clock=lambda: now[0])
    waits = [patience.wait_s("a") for _ in range(100)]
    assert waits[:5] == [0.0] * 5
    assert waits[5:8] == pytest.approx([0.1, 0.2, 0.3])
    assert max(waits) == 2.0
    assert patience.wait_s("b") == 0.0
    now[0] = 3.0
    assert patience.wait_s("a") == 0.0
    for number in range(5000):
        patience.wait_s(f"address {number}")
    assert len(patience._spent) == 4096
    app = closed_app()
    app.patience = Patience(per_s=0.1, burst=1, longest_s=2.0)
    with serving(app) as url:
        assert httpx2.get(f"{url}/v1/keys").status_code == 200
        for path in ("/v1/keys", "/healthz"):
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.get(url + path, timeout=0.3)
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/adapt", content=request(), timeout=0.3)
        assert adapt(url).status_code == 200
    unsigned = create_app(TinyBackend(), KEY)
    unsigned.patience = app.patience
    with serving(unsigned) as url:  # an open service serves them
        assert httpx2.post(f"{url}/v1/adapt", content=request()).status_code == 200


def test_who_makes_up_signatures_waits_like_who_has_none() -> None:
    """600 connections with false signatures kept a device of another key waiting for 8 s."""
    app = closed_app()
    app.patience = Patience(per_s=0.1, burst=1, longest_s=2.0)
    false = header(request(), key=make_key())
    with serving(app) as url:
        assert adapt(url, request(), **false).status_code == 401
        asking = [
            ("POST", "/v1/adapt", false),
            ("POST", "/v1/adapt", {"authorization": "nonsense"}),
            ("POST", "/v1/key", false),
            ("POST", "/v1/feedback", false),
            ("GET", "/v1/operator/events", {"authorization": "Bearer guess"}),
            ("GET", "/v1/keys", false),
            ("GET", "/healthz", {"authorization": "Bearer guess"}),
        ]
        for method, path, headers in asking:
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.request(method, url + path, content=request(), headers=headers, timeout=0.3)
        assert adapt(url).status_code == 200


def test_a_connection_that_is_answered_slowly_gives_way_to_another_address(connect: Any) -> None:
    app = closed_app()
    app.patience = Patience(per_s=0.1, burst=1, longest_s=2.0)
    with served(app, connections=16) as (url, _, _):
        many = [connect(url, b"GET /v1/keys HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(17)]
        assert ended(many[1])  # the first was answered
        assert adapt(url).status_code == 200
        for one in many:
            one.close()


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
