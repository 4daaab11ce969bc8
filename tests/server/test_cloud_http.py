"""The service over real HTTP on loopback."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest
from backends import BrokenBackend, TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP, parameter_shapes

from paramcast.protocol import (
    MAX_REQUEST_BYTES,
    AdaptRequest,
    Package,
    make_key,
    open_package,
    public_key_hex,
)
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION
from paramcast.server import create_app

KEY = make_key()
REQUEST = AdaptRequest(
    "cam-1", MODEL, 0, np.ones((2, IMAGE_UP), "f4"), np.ones((2, TEXT_UP), "f4"), np.arange(2)
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(create_app(TinyBackend(), KEY)) as url:
        yield url


def test_a_request_becomes_a_package(url: str) -> None:
    reply = httpx2.post(f"{url}/v1/adapt", content=REQUEST.encode())
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert opened(reply.content, "cam-1").quantization == DEFAULT_QUANTIZATION


def test_the_model_is_described(url: str) -> None:
    described = httpx2.get(f"{url}/v1/model").json()
    assert described == {
        "model": MODEL,
        "form": "full",
        "task": "qa",
        "parameters": {name: list(shape) for name, shape in parameter_shapes("full").items()},
        "uplink_dims": [IMAGE_UP, TEXT_UP],
        "quantization": DEFAULT_QUANTIZATION,
        "lifetime_s": 7 * 86400,
        "public_key": public_key_hex(KEY),
    }


def test_health_is_that_of_the_generate_path(url: str) -> None:
    reply = httpx2.get(f"{url}/healthz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok", "model": MODEL})


def test_another_model_is_409(url: str) -> None:
    other = "c" * 64
    reply = httpx2.post(f"{url}/v1/adapt", content=dataclasses.replace(REQUEST, model=other).encode())
    assert reply.status_code == 409
    assert other in reply.json()["error"]
    assert MODEL in reply.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff" * 100, REQUEST.encode()[:-1], bytes(MAX_REQUEST_BYTES)])
def test_malformed_is_422(url: str, body: bytes) -> None:
    reply = httpx2.post(f"{url}/v1/adapt", content=body)
    assert reply.status_code == 422
    assert reply.json()["error"]


def test_another_method_is_405(url: str) -> None:
    assert httpx2.get(f"{url}/v1/adapt").status_code == 405


def test_too_large_is_413(url: str) -> None:
    assert httpx2.post(f"{url}/v1/adapt", content=bytes(MAX_REQUEST_BYTES + 1)).status_code == 413


def test_the_schema_knows_the_routes(url: str) -> None:
    paths = httpx2.get(f"{url}/openapi.json").json()["paths"]
    assert paths.keys() > {"/v1/adapt", "/healthz", "/readyz", "/metrics", "/v1/model", "/v1/enrol"}
    assert "application/octet-stream" in paths["/v1/adapt"]["post"]["requestBody"]["content"]


@pytest.mark.parametrize("fault", ["raises", "nan", "missing", "shape", "dtype", "nothing"])
def test_a_failing_model_is_500_without_internals(fault: str) -> None:
    with serving(create_app(BrokenBackend(fault), KEY)) as url:
        reply = httpx2.post(f"{url}/v1/adapt", content=REQUEST.encode())
        assert reply.status_code == 500
        assert "secret" not in reply.text
        assert "Error(" not in reply.text
        health = httpx2.get(f"{url}/healthz")
        assert (health.status_code, health.json()) == (503, {"status": "failing"})


class RequestGuard(TinyBackend):
    """Its work waits until it is let through; notes the batches that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.open = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        self.batches.append([request.device for request in requests])
        self.entered.set()
        assert self.open.wait(30)
        if any(request.device == "bad" for request in requests):
            raise ValueError("cannot take this one")
        return super().generate(requests)


def posted(client: httpx2.Client, url: str, request: AdaptRequest) -> httpx2.Response:
    return client.post(f"{url}/v1/adapt", content=request.encode(), timeout=30)


def device_request(name: str) -> AdaptRequest:
    """A request of features of its own."""
    rng = np.random.default_rng(sum(map(ord, name)))
    return dataclasses.replace(REQUEST, device=name, anchors=rng.normal(size=(2, IMAGE_UP)).astype("f4"))


def test_the_loop_answers_while_a_model_works() -> None:
    backend = RequestGuard()
    with serving(create_app(backend, KEY)) as url, ThreadPoolExecutor() as pool, httpx2.Client() as client:
        reply = pool.submit(posted, client, url, REQUEST)
        assert backend.entered.wait(30)
        assert client.get(f"{url}/v1/model").status_code == 200
        backend.open.set()
        assert reply.result(30).status_code == 200


def test_what_comes_together_is_generated_together_and_each_gets_its_own() -> None:
    """While the first is worked on, the others wait; one that the model cannot take harms no other."""
    backend = RequestGuard()
    app = create_app(backend, KEY, quantization="fp32")
    names = ["bad", *(f"cam-{number}" for number in range(6))]
    with serving(app) as url, ThreadPoolExecutor(8) as pool, httpx2.Client() as client:
        first = pool.submit(posted, client, url, device_request("first"))
        assert backend.entered.wait(30)
        replies = {name: pool.submit(posted, client, url, device_request(name)) for name in names}
        wait_for(lambda: metrics(client, url)["paramcast_waiting"] == 7)
        backend.open.set()
        assert first.result(30).status_code == 200
        assert replies.pop("bad").result(30).status_code == 500
        for name, reply in replies.items():
            package = opened(reply.result(30).content, name)
            (alone,) = TinyBackend().generate([AdaptRequest.decode(device_request(name).encode())])
            for tensor, values in alone.items():
                np.testing.assert_array_equal(package.tensors[tensor], values)
        counted = metrics(client, url)
    assert sorted(backend.batches[1]) == sorted(names)
    assert (counted["paramcast_batches_total"], counted["paramcast_requests_total"]) == (2, 8)


def test_a_full_queue_is_429_and_the_health_check_comes_through() -> None:
    backend = RequestGuard()
    with (
        serving(create_app(backend, KEY, waiting_room=2)) as url,
        ThreadPoolExecutor(8) as pool,
        httpx2.Client() as client,
    ):
        served = [pool.submit(posted, client, url, REQUEST)]
        assert backend.entered.wait(30)
        served += [pool.submit(posted, client, url, REQUEST) for _ in range(2)]
        wait_for(lambda: metrics(client, url)["paramcast_waiting"] == 2)
        refused = posted(client, url, REQUEST)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "waiting" in refused.json()["error"]
        health = pool.submit(client.get, f"{url}/healthz", timeout=30)
        assert metrics(client, url)["paramcast_refused_total"] == 1
        backend.open.set()
        assert [reply.result(30).status_code for reply in served] == [200] * 3
        assert health.result(30).status_code == 200
        assert posted(client, url, REQUEST).status_code == 200


def test_a_model_that_gives_too_few_harms_those_alone_that_lack() -> None:
    class Short(RequestGuard):
        def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
            return super().generate(requests)[: max(1, len(requests) - 1)]

    backend = Short()
    with serving(create_app(backend, KEY)) as url, ThreadPoolExecutor(8) as pool, httpx2.Client() as client:
        replies = [pool.submit(posted, client, url, REQUEST)]
        assert backend.entered.wait(30)
        replies += [pool.submit(posted, client, url, REQUEST) for _ in range(3)]
        wait_for(lambda: metrics(client, url)["paramcast_waiting"] == 3)
        backend.open.set()
        assert [reply.result(30).status_code for reply in replies] == [200] * 4
    assert [len(batch) for batch in backend.batches] == [1, 3, 1, 1, 1]


def metrics(client: httpx2.Client, url: str) -> dict[str, float]:
    lines = client.get(f"{url}/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


def opened(data: bytes, device: str) -> Package:
    return open_package(
        data,
        public_key_hex(KEY),
        device=device,
        model=MODEL,
        after=0,
        now=0,
        expected=parameter_shapes("full"),
    )


def wait_for(condition: Callable[[], bool]) -> None:
    """Until something that is on its way has arrived; each look is a round trip to the server."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
