"""The service over real HTTP on loopback."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest
from backends import BrokenBackend, TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP, parameter_shapes

from paramcast.cloud import create_app
from paramcast.wire import MAX_REQUEST_BYTES, AdaptRequest, make_key, open_package, public_key_hex

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
    package = open_package(
        reply.content,
        public_key_hex(KEY),
        device="cam-1",
        model=MODEL,
        after=0,
        now=0,
        expected=parameter_shapes("full"),
    )
    assert package.quantisation == "int8"


def test_the_model_is_described(url: str) -> None:
    described = httpx2.get(f"{url}/v1/model").json()
    assert described == {
        "model": MODEL,
        "form": "full",
        "task": "qa",
        "parameters": {name: list(shape) for name, shape in parameter_shapes("full").items()},
        "uplink_dims": [IMAGE_UP, TEXT_UP],
        "quantisation": "int8",
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


def test_too_large_is_413(url: str) -> None:
    assert httpx2.post(f"{url}/v1/adapt", content=bytes(MAX_REQUEST_BYTES + 1)).status_code == 413


def test_the_schema_knows_the_routes(url: str) -> None:
    paths = httpx2.get(f"{url}/openapi.json").json()["paths"]
    assert paths.keys() == {"/v1/adapt", "/healthz", "/v1/model"}
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


def test_the_loop_answers_while_a_model_works() -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(TinyBackend):
        def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
            entered.set()
            assert release.wait(30)
            return super().generate(requests)

    statuses: list[int] = []
    with serving(create_app(Slow(), KEY)) as url:

        def ask() -> None:
            statuses.append(httpx2.post(f"{url}/v1/adapt", content=REQUEST.encode(), timeout=30).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        assert entered.wait(30)
        assert httpx2.get(f"{url}/v1/model").status_code == 200
        release.set()
        thread.join(30)
    assert statuses == [200]
