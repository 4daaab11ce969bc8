"""The fault table: the device answers with the best that it may trust, and says which that is and why.

Every row is run against a real server on loopback. That a power cut at any write changes nothing is in
test_device_store.py, as it needs processes of its own.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_bundle
from test_device_runtime import sealed

from paramcast.device import AdaptationLoop, BundleError, CloudClient, CloudError, DeviceRuntime, client, loop
from paramcast.device.policy import Always
from paramcast.protocol import SigningKey, endorse, make_key, public_key_hex

Clip = Callable[..., np.ndarray]
YEAR_S = 365 * 86400
TIMEOUT_S = 0.4


@dataclass
class Cloud:
    """A cloud that misbehaves as long as `fault` is set; then it answers as it should."""

    good: Callable[[], bytes]
    fault: Callable[[BaseHTTPRequestHandler, bytes], None] | None = None
    asked: int = 0
    endorsements: list[dict[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None = None) -> None:
    handler.send_response(status)
    handler.send_header("content-length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def drip(handler: BaseHTTPRequestHandler, good: bytes) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(good)))
    handler.end_headers()
    for byte in good:
        handler.wfile.write(bytes([byte]))
        if handler.server.cloud.stop.wait(0.02):  # type: ignore[attr-defined]
            return


@contextmanager
def serve(cloud: Cloud) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            cloud.asked += 1
            with suppress(BrokenPipeError, ConnectionResetError):  # the device hangs up on what drips
                (cloud.fault or (lambda handler, good: send(handler, 200, good)))(self, cloud.good())

        def do_GET(self) -> None:
            send(self, 200, json.dumps({"endorsements": cloud.endorsements}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.cloud = cloud  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        cloud.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Row:
    """A fault, and what `status()["cloud"]["last_failure"]` says of it."""

    fault: Callable[[BaseHTTPRequestHandler, bytes], None]
    error: str
    message: str


def row(status: int, error: str, message: str, body: bytes = b"{}") -> Row:
    return Row(lambda handler, good: send(handler, status, body), error, message)


FAULTS: dict[str, Row] = {
    "network lost in the middle": Row(
        lambda handler, good: (
            send(handler, 200, good[: len(good) // 2], len(good)),
            handler.connection.close(),
        ),
        "CloudError",
        "no answer from the cloud",
    ),
    "500": row(500, "CloudError", "status 500: it broke", b'{"error": "it broke"}'),
    "429": row(429, "CloudError", "status 429"),
    "garbage": row(200, "BadFormat", "no parameter package", b"<html>busy</html>" * 50),
    "slow drip": Row(drip, "CloudError", "took too long|no answer"),
}
PACKAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "an old package": ({"sequence": 1}, "StaleSequence", "not newer than 1"),
    "a package for another device": ({"device": "cam-2"}, "WrongDevice", "for device cam-2"),
    "a package for another model": ({"model": "d" * 64}, "WrongModel", "for base model d"),
    "a package that has expired": ({"expires": 1}, "Expired", "expired at 1"),
}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Clocks that tests set; waits between attempts take no time."""
    clocks = {"wall": time.time(), "steady": 0.0}
    monkeypatch.setattr("paramcast.device.parameters._clock", lambda: clocks["wall"])
    monkeypatch.setattr(loop, "_monotonic", lambda: clocks["steady"])
    monkeypatch.setattr(client, "_sleep", lambda seconds: None)
    return clocks


class Setting:
    """A device that has taken up package 1, and its cloud."""

    def __init__(self, folder: Path, key: SigningKey, clip: Clip, url: str, cloud: Cloud) -> None:
        self.folder, self.key, self.clip, self.cloud = folder, key, clip, cloud
        self.runtime = self.restarted()
        cloud.good = lambda: sealed(self.runtime, key, sequence=self.runtime._parameters.highest + 1)
        self.client = CloudClient(url, timeout_s=TIMEOUT_S)
        self.loop = AdaptationLoop(self.runtime, self.client, Always())

    def restarted(self) -> DeviceRuntime:
        return DeviceRuntime.load(
            self.folder / "bundle", "cam-1", store=self.folder / "store", public_key=public_key_hex(self.key)
        )

    def answer(self, runtime: DeviceRuntime | None = None) -> Any:
        return (runtime or self.runtime).answer(self.clip(), ["who"])


@pytest.fixture
def setting(tmp_path: Path, key: SigningKey, clip: Clip, now: dict[str, float]) -> Iterator[Setting]:
    make_bundle(tmp_path / "bundle")
    cloud = Cloud(good=bytes)
    with serve(cloud) as url:
        made = Setting(tmp_path, key, clip, url, cloud)
        assert made.loop.observe(clip(), ["who"])
        with made.client:
            yield made


def goes_on(setting: Setting, now: dict[str, float], error: str, message: str) -> None:
    """The device has kept package 1 and says why; when all is well again it takes up the next."""
    before, asked = setting.answer(), setting.cloud.asked
    assert not setting.loop.observe(setting.clip(1), ["who"])
    assert setting.answer() == before
    status = setting.loop.status()
    assert (status["source"], status["sequence"]) == ("cloud", 1)
    assert status["why"] == "package 1 came from the cloud"
    failure = status["cloud"]["last_failure"]
    assert failure["error"] == error
    assert re.search(message, failure["message"]), failure
    again = setting.restarted()
    assert (again.status()["source"], again.status()["sequence"]) == ("store", 1)
    assert setting.answer(again) == before
    asked = setting.cloud.asked
    assert not setting.loop.ask()  # at once it does not even try
    assert "may be made in 10 s" in setting.loop.status()["cloud"]["waits_for"]
    assert setting.cloud.asked == asked
    setting.cloud.fault = None
    now["steady"] += 11
    assert setting.loop.ask()
    status = setting.loop.status()
    assert (status["sequence"], status["cloud"]["last_failure"], status["refused"]) == (2, None, None)


@pytest.mark.parametrize("case", FAULTS)
def test_a_cloud_that_misbehaves(setting: Setting, now: dict[str, float], case: str) -> None:
    setting.cloud.fault = FAULTS[case].fault
    goes_on(setting, now, FAULTS[case].error, FAULTS[case].message)


@pytest.mark.parametrize("case", PACKAGES)
def test_a_package_that_may_not_be_run(setting: Setting, now: dict[str, float], case: str) -> None:
    changes, error, message = PACKAGES[case]
    bad = sealed(setting.runtime, setting.key, **{"sequence": 2, **changes})
    setting.cloud.fault = lambda handler, good: send(handler, 200, bad)
    goes_on(setting, now, error, message)


def test_the_cloud_changes_its_key(setting: Setting, now: dict[str, float]) -> None:
    """Without an endorsement by the key that the device trusts, the new one is refused; with it, followed."""
    new = make_key()
    package = sealed(setting.runtime, new, sequence=2)
    setting.cloud.fault = lambda handler, good: send(handler, 200, package)
    assert not setting.loop.observe(setting.clip(1), ["who"])
    assert setting.loop.status()["cloud"]["last_failure"]["error"] == "BadSignature"
    assert setting.loop.status()["sequence"] == 1
    setting.cloud.endorsements = [asdict(endorse(setting.key, public_key_hex(new)))]
    now["steady"] += 11
    assert setting.loop.ask()
    assert setting.restarted().status()["sequence"] == 2


def test_no_network_at_the_start(tmp_path: Path, key: SigningKey, clip: Clip, now: dict[str, float]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    runtime = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store")
    base = runtime.answer(clip(), ["who"])
    with CloudClient(url, timeout_s=TIMEOUT_S) as cloud:
        lost = AdaptationLoop(runtime, cloud, Always())
        assert not lost.observe(clip(), ["who"])
        assert runtime.answer(clip(), ["who"]) == base
        for pause in (10, 20, 40):  # and ever longer, so that a battery is not spent on a dead network
            assert not lost.ask()
            assert f"in {pause} s" in lost.status()["cloud"]["waits_for"]
            now["steady"] += pause
            assert not lost.ask()
        status = lost.status()
        for _ in range(2000):  # offline for weeks
            lost._failed(CloudError("no network"))
        assert not lost.ask()
        assert "in 3600 s" in lost.status()["cloud"]["waits_for"]
    assert (status["source"], status["why"]) == ("base", "no package has been taken up yet")
    assert status["cloud"]["failures"] == 4
    assert "no answer from the cloud" in status["cloud"]["last_failure"]["message"]


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As on a full disk: the kernel refuses to write more."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of files")
@pytest.mark.parametrize("room", [0, 100, 400])
def test_a_full_disk(setting: Setting, now: dict[str, float], room: int) -> None:
    """The package is run all the same; a restart goes on with the last one that was kept."""
    before = setting.answer()
    setting.cloud.good = lambda: sealed(setting.runtime, setting.key, sequence=2, scale=2)
    with no_file_longer_than(room):
        assert setting.loop.observe(setting.clip(1), ["who"])
    status = setting.loop.status()
    assert (status["source"], status["sequence"]) == ("cloud", 2)
    assert status["store_error"]
    assert setting.answer() != before
    again = setting.restarted()
    assert (again.status()["source"], again.status()["sequence"]) == ("store", 1)
    assert setting.answer(again) == before
    assert list((setting.folder / "store").rglob(".*.tmp")) == []
    setting.cloud.good = lambda: sealed(setting.runtime, setting.key, sequence=3)
    assert setting.loop.ask()
    assert setting.loop.status()["store_error"] is None
    assert setting.restarted().status()["sequence"] == 3


def test_a_clock_a_year_ahead(setting: Setting, now: dict[str, float]) -> None:
    """What runs is run on, over a restart too; what comes seems expired and is refused, with the reason."""
    right = now["wall"]
    setting.runtime.apply(sealed(setting.runtime, setting.key, sequence=2, expires=int(right) + 86400))
    before = setting.answer()
    setting.cloud.good = lambda: sealed(setting.runtime, setting.key, sequence=3, expires=int(right) + 86400)
    now["wall"] = right + YEAR_S
    assert not setting.loop.observe(setting.clip(1), ["who"])
    status = setting.loop.status()
    assert (status["sequence"], status["expired"]) == (2, True)
    assert status["cloud"]["last_failure"]["error"] == status["refused"]["error"] == "Expired"
    again = setting.restarted()
    assert (again.status()["source"], again.status()["sequence"]) == ("store", 2)
    assert setting.answer(again) == before
    now["wall"] = right
    now["steady"] += 11
    assert setting.loop.ask()


def test_a_clock_a_year_behind(setting: Setting, now: dict[str, float]) -> None:
    """Packages come and go as ever, and one that expired before the last was taken up stays expired."""
    right = now["wall"]
    now["wall"] = right - YEAR_S
    stale = sealed(setting.runtime, setting.key, sequence=2, expires=int(right) - 3600)
    setting.cloud.fault = lambda handler, good: send(handler, 200, stale)
    assert not setting.loop.observe(setting.clip(1), ["who"])
    assert setting.loop.status()["refused"]["error"] == "Expired"
    setting.cloud.fault = None
    now["steady"] += 11
    assert setting.loop.ask()
    assert setting.restarted().status()["sequence"] == 2


def test_the_model_is_replaced_under_it(setting: Setting, now: dict[str, float]) -> None:
    """A running device does not read its bundle again; a restart has the new base, or one clear error."""
    before = setting.answer()
    bundle = setting.folder / "bundle"
    (bundle / "answer.onnx").write_bytes(b"half of a new one")
    assert setting.answer() == before
    with pytest.raises(BundleError, match=r"answer\.onnx is not the file that was exported"):
        setting.restarted()
    make_bundle(bundle, model="e" * 64)
    new = setting.restarted()
    assert (new.status()["source"], new.status()["why"]) == ("base", "no package has been taken up yet")
    setting.answer(new)
    make_bundle(bundle)  # and back: its packages are still there
    assert setting.restarted().status()["sequence"] == 1
    assert setting.loop.observe(setting.clip(1), ["who"])
