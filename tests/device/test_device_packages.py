"""Whatever package arrives: the device runs a good one, else keeps what it has and says why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import MODEL, base_parameters, make_bundle
from test_device_runtime import sealed

from paramcast import wire
from paramcast.device import CloudError, DeviceRuntime, NoPublicKey, ProbeFailed
from paramcast.wire import SigningKey, make_key, public_key_hex
from paramcast.wire.package import FORMATS, MAGIC
from paramcast.wire.signing import sign
from paramcast.wire.tensors import pack

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


BAD: dict[str, tuple[Callable[[DeviceRuntime, SigningKey], bytes], type[wire.PackageError]]] = {
    "garbage": (lambda runtime, key: b"<html>busy</html>", wire.BadFormat),
    "tampered": (lambda runtime, key: tampered(sealed(runtime, key, sequence=9)), wire.BadSignature),
    "another cloud": (lambda runtime, key: sealed(runtime, make_key(), sequence=9), wire.BadSignature),
    "stale": (lambda runtime, key: sealed(runtime, key, sequence=1), wire.StaleSequence),
    "expired": (lambda runtime, key: sealed(runtime, key, sequence=9, expires=1), wire.Expired),
    "foreign device": (lambda runtime, key: sealed(runtime, key, sequence=9, device="x"), wire.WrongDevice),
    "foreign model": (lambda runtime, key: sealed(runtime, key, sequence=9, model="c" * 64), wire.WrongModel),
    "NaN": (lambda runtime, key: forged(key, nan(base_parameters("full"))), wire.NotFinite),
    "incomplete": (
        lambda runtime, key: forged(key, {"hidden.bias": base_parameters("full")["hidden.bias"]}),
        wire.MissingTensor,
    ),
    "too much": (
        lambda runtime, key: forged(key, base_parameters("full") | {"more": np.ones(1, "f4")}),
        wire.UnexpectedTensor,
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
    before, running = runtime.retrieve("dog"), runtime._snapshot
    make, error = BAD[case]
    with pytest.raises(error):
        runtime.apply(make(runtime, key))
    assert runtime._snapshot is running
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
    with pytest.raises(wire.StaleSequence):
        second.apply(sealed(second, key, sequence=4))
    other = DeviceRuntime.load(bundle, "cam-2", store=tmp_path / "store")
    assert (other.status()["source"], other.public_key) == ("base", None)


def test_a_damaged_store_means_the_base(bundle: Path, tmp_path: Path, key: SigningKey) -> None:
    store = tmp_path / "store"
    runtime = DeviceRuntime.load(bundle, "cam-1", store=store)
    runtime.trust(public_key_hex(key))
    runtime.apply(sealed(runtime, key))
    (path,) = store.glob("*.pcpk")
    path.write_bytes(tampered(path.read_bytes()))
    status = DeviceRuntime.load(bundle, "cam-1", store=store).status()
    assert (status["source"], status["refused"]["error"]) == ("base", "BadSignature")


def test_an_expired_store_means_the_base_but_no_replay(
    bundle: Path, tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store", public_key=public_key_hex(key))
    monkeypatch.setattr("paramcast.device.runtime._now", lambda: 100.0)
    runtime.apply(sealed(runtime, key, sequence=5, expires=200))
    assert not runtime.status()["expired"]
    monkeypatch.setattr("paramcast.device.runtime._now", lambda: 300.0)
    assert runtime.status()["expired"]
    late = DeviceRuntime.load(bundle, "cam-1", store=tmp_path / "store", public_key=public_key_hex(key))
    assert (late.status()["source"], late.status()["refused"]["error"]) == ("base", "Expired")
    with pytest.raises(wire.StaleSequence):
        late.apply(sealed(late, key, sequence=5))


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


def test_eight_threads_never_see_a_torn_snapshot(bundle: Path, clip: Clip, key: SigningKey) -> None:
    """Each package is constant in all of its tensors; a mixture of two would give other logits."""
    runtime = DeviceRuntime.load(bundle, "cam-1", public_key=public_key_hex(key))
    constants = [0.0, 0.1, 0.2, 0.3]
    whole = {
        value: {n: np.full_like(v, value) for n, v in base_parameters("full").items()} for value in constants
    }
    packages = [
        sealed(runtime, key, sequence=number, tensors=whole[constants[number % 4]])
        for number in range(1, 121)
    ]
    expected = set()
    for value in constants:
        alone = DeviceRuntime.load(bundle, "cam-1", public_key=public_key_hex(key))
        alone.apply(sealed(alone, key, tensors=whole[value]))
        expected.add(alone.answer(clip(), ["who"])[0])
    assert len(expected) == 4
    runtime.apply(packages[0])
    done, seen, errors = threading.Event(), [set() for _ in range(8)], []

    def read(answers: set[Any]) -> None:
        try:
            while not done.is_set():
                answers.add(runtime.answer(clip(), ["who"])[0])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(answers,)) for answers in seen]
    for thread in threads:
        thread.start()
    for data in packages[1:]:
        runtime.apply(data)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set().union(*seen) <= expected
    assert all(seen)
