"""Whatever package arrives: the device runs a good one, else keeps what it has and says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import MODEL, base_parameters, make_bundle
from test_device_runtime import sealed

from paramcast import protocol
from paramcast.device import CloudError, DeviceRuntime, NoPublicKey, ProbeFailed
from paramcast.protocol import SigningKey, make_key, public_key_hex
from paramcast.protocol.package import FORMATS, MAGIC
from paramcast.protocol.signing import sign
from paramcast.protocol.tensors import pack

Clip = Callable[..., np.ndarray]
HEAD = {"d": "cam-1", "m": MODEL, "s": "9", "e": str(2**40), "f": "full", "q": "fp32"}


def forged(key: SigningKey, tensors: dict[str, np.ndarray]) -> bytes:
    content = pack(HEAD, tensors)
    first = next(iter(FORMATS))
    return MAGIC + first + sign(key, first + content) + content


def tampered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def nan(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors | {"hidden.bias": np.full_like(tensors["hidden.bias"], np.nan)}


BAD: dict[str, tuple[Callable[[DeviceRuntime, SigningKey], bytes], type[protocol.PackageError]]] = {
    "garbage": (lambda runtime, key: b"<html>busy</html>", protocol.BadFormat),
    "tampered": (lambda runtime, key: tampered(sealed(runtime, key, sequence=9)), protocol.BadSignature),
    "another cloud": (lambda runtime, key: sealed(runtime, make_key(), sequence=9), protocol.BadSignature),
    "stale": (lambda runtime, key: sealed(runtime, key, sequence=1), protocol.StaleSequence),
    "expired": (lambda runtime, key: sealed(runtime, key, sequence=9, expires=1), protocol.Expired),
    "foreign device": (
        lambda runtime, key: sealed(runtime, key, sequence=9, device="x"),
        protocol.WrongDevice,
    ),
    "foreign model": (
        lambda runtime, key: sealed(runtime, key, sequence=9, model="c" * 64),
        protocol.WrongModel,
    ),
    "NaN": (lambda runtime, key: forged(key, nan(base_parameters("full"))), protocol.NotFinite),
    "incomplete": (
        lambda runtime, key: forged(key, {"hidden.bias": base_parameters("full")["hidden.bias"]}),
        protocol.MissingTensor,
    ),
    "too much": (
        lambda runtime, key: forged(key, base_parameters("full") | {"more": np.ones(1, "f4")}),
        protocol.UnexpectedTensor,
    ),
    "finite, but its outputs are not": (
        lambda runtime, key: sealed(runtime, key, scale=3e38 / 10, sequence=9),
        ProbeFailed,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_package_changes_nothing(tmp_path: Path, clip: Clip, key: SigningKey, case: str) -> None:
    folder = make_bundle(tmp_path / "b", task="retrieval", public_key=public_key_hex(key))
    runtime = DeviceRuntime.load(folder, "cam-1", store=tmp_path / "store")
    runtime.index("a", clip())
    runtime.apply(sealed(runtime, key))
    before, running = runtime.retrieve("dog"), runtime._parameters.current
    make, error = BAD[case]
    with pytest.raises(error):
        runtime.apply(make(runtime, key))
    assert runtime._parameters.current is running
    assert runtime.retrieve("dog") == before
    status = runtime.status()
    assert (status["source"], status["sequence"]) == ("cloud", 1)
    assert status["refused"]["error"] == error.__name__
    assert status["refused"]["message"]
    again = DeviceRuntime.load(folder, "cam-1", store=tmp_path / "store")
    assert (again.status()["source"], again.status()["sequence"]) == ("store", 1)
    runtime.apply(sealed(runtime, key, sequence=2))
    assert runtime.status()["refused"] is None


def test_without_a_key_no_package_is_run(bundle: Path, key: SigningKey) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    with pytest.raises(NoPublicKey):
        runtime.apply(sealed(runtime, key))
    assert runtime.status()["source"] == "base"


def test_a_restart_goes_on_with_the_stored_package(
    bundle: Path, tmp_path: Path, clip: Clip, key: SigningKey
) -> None:
    first = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store")
    first.trust(public_key_hex(key))
    base = first.answer(clip(), ["who"])
    first.apply(sealed(first, key, sequence=4))
    second = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store")
    assert second.answer(clip(), ["who"]) == first.answer(clip(), ["who"]) != base
    assert (second.status()["source"], second.status()["sequence"]) == ("store", 4)
    second.observe(clip(), ["who"])
    assert second.request().sequence == 4
    with pytest.raises(protocol.StaleSequence):
        second.apply(sealed(second, key, sequence=4))
    other = DeviceRuntime.load(bundle, "cam-2", store=tmp_path / "store")
    assert (other.status()["source"], other.public_key) == ("base", None)


def test_a_broken_disk_does_not_stop_the_device(bundle: Path, tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    runtime = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store", public_key=public_key_hex(key))
    assert runtime.status()["store_error"]
    runtime.apply(sealed(runtime, key))
    status = runtime.status()
    assert status["source"] == "cloud"
    assert status["store_error"]


def test_the_first_key_is_pinned(bundle: Path, tmp_path: Path, key: SigningKey) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store")
    runtime.trust(public_key_hex(key))
    runtime.trust(public_key_hex(key))
    for other in (public_key_hex(make_key()), "no key"):
        with pytest.raises(CloudError):
            runtime.trust(other)
    assert DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store").public_key == public_key_hex(key)


def test_a_given_key_goes_before_the_manifest_s(tmp_path: Path, key: SigningKey) -> None:
    folder = make_bundle(tmp_path / "b", public_key=public_key_hex(make_key()))
    runtime = DeviceRuntime.load(folder, "cam-1", public_key=public_key_hex(key))
    runtime.apply(sealed(runtime, key))


def test_status_is_json(bundle: Path) -> None:
    import json

    status: dict[str, Any] = DeviceRuntime.load(bundle, "cam-1").status()
    assert json.loads(json.dumps(status)) == status
    assert status["why"] == "no package has been taken up yet"
