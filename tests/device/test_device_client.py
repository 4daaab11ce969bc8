"""Adapting over real HTTP: against the real service, and against a scripted cloud that misbehaves."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from backends import BrokenBackend, TinyBackend, serving
from bundles import FORMS, edit_manifest, make_bundle
from test_device_runtime import sealed

from paramcast.device import (
    AsyncCloudClient,
    CloudClient,
    CloudError,
    DeviceInputError,
    DeviceRuntime,
    async_client,
    client,
    exchange,
)
from paramcast.protocol import BadFormat, BadSignature, SigningKey, make_key, public_key_hex
from paramcast.server import create_app

Clip = Callable[..., np.ndarray]
Reply = tuple[int, dict[str, str], bytes]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which are recorded and not waited."""
    asked: list[float] = []

    async def sleep_async(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(client, "_sleep", asked.append)
    monkeypatch.setattr(async_client, "_sleep_async", sleep_async)
    return asked


@contextmanager
def scripted(*replies: Reply) -> Iterator[str]:
    """A server that gives `replies` in turn, and the last one for ever."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def do_GET(self) -> None:
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def observed(bundle: Path, clip: Clip, **options: str) -> DeviceRuntime:
    runtime = DeviceRuntime.load(bundle, "cam-1", **options)
    for seed in range(3):
        runtime.observe(clip(seed), ["what colour is the ball"])
    return runtime


def test_every_form_is_adapted(tmp_path: Path, clip: Clip, key: SigningKey) -> None:
    for form in FORMS:
        runtime = observed(make_bundle(tmp_path / form, form=form), clip)
        before = runtime.answer(clip(), ["who"])
        with serving(create_app(TinyBackend(form), key)) as url, CloudClient(url) as cloud:
            package = cloud.adapt(runtime)
            assert (package.sequence, cloud.adapt(runtime).sequence) == (1, 2)
        assert runtime.answer(clip(), ["who"]) != before
        status = runtime.status()
        assert (status["source"], status["sequence"]) == ("cloud", 2)
        assert status["public_key"] == public_key_hex(key)


def test_asyncio_code_can_adapt(bundle: Path, clip: Clip, key: SigningKey) -> None:
    async def adapt(url: str, runtime: DeviceRuntime) -> int:
        async with AsyncCloudClient(url) as cloud:
            return (await cloud.adapt(runtime)).sequence

    with serving(create_app(TinyBackend(), key)) as url:
        runtime = observed(bundle, clip)
        assert asyncio.run(adapt(url, runtime)) == 1
        assert asyncio.run(adapt(url, runtime)) == 2
    assert runtime.status()["source"] == "cloud"


def test_a_cloud_that_is_away_leaves_the_base(bundle: Path, clip: Clip, waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    runtime = observed(bundle, clip)
    before = runtime.answer(clip(), ["who"])
    with CloudClient(url) as cloud, pytest.raises(CloudError, match=r"no answer from the cloud.*4 attempts"):
        cloud.adapt(runtime)
    assert len(waits) == 3
    assert runtime.answer(clip(), ["who"]) == before

    async def adapt() -> None:
        async with AsyncCloudClient(url) as cloud:
            await cloud.adapt(runtime)

    with pytest.raises(CloudError, match="4 attempts"):
        asyncio.run(adapt())
    assert len(waits) == 6


def test_another_model_is_named_and_not_retried(
    tmp_path: Path, clip: Clip, key: SigningKey, waits: list[float]
) -> None:
    other = "c" * 64
    folder = make_bundle(tmp_path / "b", model=other, public_key=public_key_hex(key))
    with serving(create_app(TinyBackend(), key)) as url, CloudClient(url) as cloud:
        with pytest.raises(CloudError, match=f"409.*{other}"):
            cloud.adapt(observed(folder, clip))
        edit_manifest(folder, public_key=None)
        stranger = observed(folder, clip)
        with pytest.raises(CloudError, match=f"this device runs {other}"):
            cloud.adapt(stranger)
    assert stranger.public_key is None
    assert waits == []


def test_a_failing_model_is_retried_then_told(
    bundle: Path, clip: Clip, key: SigningKey, waits: list[float]
) -> None:
    with (
        serving(create_app(BrokenBackend("raises"), key)) as url,
        CloudClient(url) as cloud,
        pytest.raises(CloudError, match="status 500: the model failed"),
    ):
        cloud.adapt(observed(bundle, clip))
    assert len(waits) == 3


def test_a_changed_key_is_refused(bundle: Path, clip: Clip, key: SigningKey) -> None:
    runtime = observed(bundle, clip)
    with serving(create_app(TinyBackend(), key)) as url, CloudClient(url) as cloud:
        cloud.trust(runtime)
    with serving(create_app(TinyBackend(), make_key())) as url, CloudClient(url) as cloud:
        with pytest.raises(CloudError, match="trusts"):
            cloud.trust(runtime)
        with pytest.raises(BadSignature):
            cloud.adapt(runtime)
    assert runtime.status()["source"] == "base"


def test_it_comes_back_after_a_bad_moment(
    bundle: Path, clip: Clip, key: SigningKey, waits: list[float]
) -> None:
    runtime = observed(bundle, clip, public_key=public_key_hex(key))
    good = (200, {}, sealed(runtime, key))
    with scripted((503, {}, b""), (429, {"retry-after": "7"}, b"{}"), good) as url, CloudClient(url) as cloud:
        assert cloud.adapt(runtime).sequence == 1
    assert 0 <= waits[0] <= 0.25
    assert 7 <= waits[1] <= 8


def test_a_date_to_come_back_at_is_honoured(
    bundle: Path, clip: Clip, key: SigningKey, waits: list[float]
) -> None:
    runtime = observed(bundle, clip, public_key=public_key_hex(key))
    date = formatdate(time.time() + 20, usegmt=True)
    with (
        scripted((429, {"retry-after": date}, b""), (200, {}, sealed(runtime, key))) as url,
        CloudClient(url) as cloud,
    ):
        cloud.adapt(runtime)
    assert 15 < waits[0] < 21


@pytest.mark.parametrize("header", ["soon", "-5", "", "٣", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_other_retry_after_values_mean_nothing(header: str) -> None:
    assert exchange.retry_after_s(client.httpx2.Headers({"retry-after": header.encode()})) == 0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((429, {"retry-after": "3600"}, b""), "come back in 3600 s"),
        ((404, {}, b"<html>"), "status 404: no reason given"),
        ((422, {}, b'{"error": "bad\\nrequest"}'), "bad request"),
        ((307, {"location": "http://127.0.0.1:1/"}, b""), "status 307"),
        ((204, {}, b""), None),
    ],
)
def test_what_is_final(
    bundle: Path, clip: Clip, key: SigningKey, waits: list[float], reply: Reply, message: str | None
) -> None:
    runtime = observed(bundle, clip, public_key=public_key_hex(key))
    with (
        scripted(reply) as url,
        CloudClient(url) as cloud,
        pytest.raises(CloudError if message else BadFormat, match=message),
    ):
        cloud.adapt(runtime)
    assert waits == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"[" * 100_000, b"{}", b'{"model": 1, "public_key": null}']
)
def test_a_nonsense_description_is_not_trusted(bundle: Path, clip: Clip, body: bytes) -> None:
    runtime = observed(bundle, clip)
    with scripted((200, {}, body)) as url, CloudClient(url) as cloud, pytest.raises(CloudError):
        cloud.trust(runtime)
    assert runtime.public_key is None


def test_an_endless_answer_is_cut(bundle: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_JSON_BYTES", 1000)
    with (
        scripted((200, {}, bytes(1001))) as url,
        CloudClient(url) as cloud,
        pytest.raises(CloudError, match="more than 1000 bytes"),
    ):
        cloud.trust(observed(bundle, clip))


def test_a_cut_answer_is_retried(bundle: Path, clip: Clip, waits: list[float]) -> None:
    runtime = observed(bundle, clip)
    with (
        scripted((200, {"content-length": "100"}, b"cut")) as url,
        CloudClient(url, timeout_s=0.5) as cloud,
        pytest.raises(CloudError, match="4 attempts"),
    ):
        cloud.trust(runtime)
    assert len(waits) == 3


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://host:x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(DeviceInputError, match="URL"):
        CloudClient(url)


def test_nothing_is_sent_before_something_was_observed(bundle: Path) -> None:
    with CloudClient("http://127.0.0.1:9") as cloud, pytest.raises(DeviceInputError, match="observe"):
        cloud.adapt(DeviceRuntime.load(bundle, "cam-1"))


def test_an_answer_that_drips_longer_than_an_attempt_may_last_is_given_up() -> None:
    body = exchange.Body(limit=100, timeout_s=-1)
    with pytest.raises(client.httpx2.ReadTimeout):
        body.add(b"x")
