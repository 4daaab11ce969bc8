"""What a device does with notices, with keys that an offline root delegates, and with what has expired."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import MODEL, make_bundle
from click.testing import CliRunner
from test_device_runtime import sealed

from paramcast import protocol
from paramcast.cli import paramcast
from paramcast.device import BundleError, CloudError, DeviceInputError, DeviceRuntime
from paramcast.device.store import PackageStore
from paramcast.protocol import Notice, SigningKey, delegate, endorse, make_key, public_key_hex, seal_notice

CLOCK = "paramcast.device.parameters._clock"
NOW = 1_700_000_000
ROOT, ONLINE, NEXT = make_key(), make_key(), make_key()
Load = Callable[..., DeviceRuntime]


def notice(number: int = 1, **changes: Any) -> bytes:
    key = changes.pop("key", ONLINE)
    times = {"time": NOW, "until": NOW + 1000}
    return seal_notice(Notice(MODEL, number, **(times | changes)), key)


def word(generation: int, key: SigningKey, not_after: int = NOW + 10**6) -> protocol.Delegation:
    return delegate(ROOT, generation=generation, key=public_key_hex(key), not_after=not_after)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the device's clock, which begins at `NOW`."""
    set_to = lambda at: monkeypatch.setattr(CLOCK, lambda: at)  # noqa: E731
    set_to(float(NOW))
    return set_to


@pytest.fixture
def load(bundle: Path, tmp_path: Path, clock: Any) -> Load:
    """Starts a device that trusts `ONLINE`, again and again on the same store."""
    given = {"store": tmp_path / "store", "public_key": public_key_hex(ONLINE)}
    return lambda **options: DeviceRuntime.load(bundle, "cam-1", **(given | options))


@pytest.fixture
def rooted(load: Load, bundle: Path, tmp_path: Path) -> Load:
    """Starts a device whose bundle the root has signed."""
    protocol.save_key(ROOT, tmp_path / "root.key")
    done = CliRunner().invoke(paramcast, ["root", "sign", str(bundle), "--root", str(tmp_path / "root.key")])
    assert done.exit_code == 0, done.output
    return lambda **options: load(**({"public_key": None} | options))


def give(runtime: DeviceRuntime, sequence: int, key: SigningKey = ONLINE, **changes: Any) -> None:
    changes = {"issued": NOW, "version": sequence, "expires": NOW + 100} | changes
    runtime.apply(sealed(runtime, key, scale=sequence, sequence=sequence, **changes))


def runs(runtime: DeviceRuntime) -> tuple[str, int]:
    status = runtime.status()
    return status["source"], status["sequence"]


def test_a_withdrawn_version_is_left_for_the_newest_allowed_one(load: Load) -> None:
    runtime = load()
    for number in (1, 2, 3):
        give(runtime, number)
    assert runtime.status()["notice"] is None
    assert not runtime.heed(notice(1, withdrawn=(2,)))  # which does not run
    assert runs(runtime) == ("cloud", 3)
    assert runtime.status()["packages"] == [1, 3]
    with pytest.raises(DeviceInputError, match="no package 2"):
        runtime.roll_back(2)
    assert runtime.heed(notice(2, withdrawn=(2, 3)))
    assert runs(runtime) == ("store", 1)
    assert runtime.status()["why"] == "package 3 was called back: version 3 of the model is withdrawn"
    with pytest.raises(protocol.Withdrawn, match="version 2"):
        give(runtime, 4, version=2)
    again = load()
    assert runs(again) == ("store", 1)
    assert again.status()["notice"] == {
        "age_s": 0.0,
        "expired": False,
        "to_base": False,
        "withdrawn": [2, 3],
    }
    with pytest.raises(protocol.Withdrawn):
        give(again, 4, version=3)
    give(again, 4)
    assert runs(again) == ("cloud", 4)


def test_a_fresher_notice_that_says_the_same_reads_no_package(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One comes with every answer of the server."""
    runtime, read, whole = load(), list[str](), PackageStore.load
    for number in (1, 2):
        give(runtime, number)
    runtime.heed(notice(1))
    monkeypatch.setattr(PackageStore, "load", lambda self, sha256: read.append(sha256) or whole(self, sha256))
    assert not runtime.heed(notice(1, time=NOW + 60, until=NOW + 2000))
    assert read == []
    again = load()
    assert again.status()["notice"] == runtime.status()["notice"]
    assert again._parameters._board.notice.until == NOW + 2000  # it was kept
    runtime.heed(notice(2, withdrawn=(1,)))
    assert runtime.status()["packages"] == [2]


def test_without_a_store_what_is_called_back_leaves_the_base(load: Load) -> None:
    runtime = load(store=None)
    give(runtime, 1)
    assert runtime.heed(notice(withdrawn=(1,)))
    assert runs(runtime) == ("base", 0)


def test_all_that_was_issued_before_a_time_is_called_back(load: Load) -> None:
    runtime = load()
    give(runtime, 1, version=None, issued=None)  # of before packages said when
    give(runtime, 2, version=None, issued=NOW - 1)
    give(runtime, 3, version=None, issued=NOW)
    assert not runtime.heed(notice(since=NOW))
    assert runtime.status()["packages"] == [3]
    assert runtime.heed(notice(2, since=NOW + 1))
    assert (runs(runtime), runs(load())) == (("base", 0), ("base", 0))


def test_to_the_base_and_back(load: Load) -> None:
    runtime = load()
    give(runtime, 1)
    assert runtime.heed(notice(1, to_base=True))
    for device in (runtime, load()):
        assert runs(device) == ("base", 0)
        assert device.status()["why"] == "the server has devices run the base model"
        with pytest.raises(protocol.Withdrawn):
            give(device, 2)
        with pytest.raises(protocol.Withdrawn):
            device.roll_back(1)
    assert runtime.heed(notice(2))
    assert runs(runtime) == ("cloud", 1)


def test_an_old_notice_does_not_come_back(load: Load, clock: Any) -> None:
    runtime = load()
    give(runtime, 1)
    runtime.heed(notice(5, withdrawn=(1,)))
    for old in (notice(4), notice(5, withdrawn=(1,), time=NOW - 1)):
        with pytest.raises(protocol.StaleNotice):
            runtime.heed(old)
    with pytest.raises(protocol.BadSignature):
        runtime.heed(notice(6, key=NEXT))
    runtime.heed(
        notice(5, withdrawn=(1,), time=NOW + 10**8, until=NOW + 10**9)
    )  # the server's clock is ahead
    runtime.heed(notice(5, withdrawn=(1,), time=NOW + 1))  # and right again
    clock(NOW + 61.0)
    assert runtime.status()["notice"]["age_s"] == 60
    clock(NOW + 1000.0)
    assert runtime.status()["notice"]["expired"]
    with pytest.raises(protocol.StaleNotice):
        load().heed(notice(4))


@pytest.mark.parametrize("way", ["package", "notice"])
def test_what_is_too_old_falls_back_if_that_is_wanted(load: Load, clock: Any, way: str) -> None:
    runtime = load(when_expired="base")
    expires = NOW + 100 if way == "package" else NOW + 10**7
    give(runtime, 1, expires=expires)
    runtime.heed(notice())
    clock(NOW + 99.0)
    assert runs(runtime) == ("cloud", 1)
    clock(NOW + 1000.0)
    for device in (runtime, load(when_expired="base")):
        assert runs(device) == ("base", 0)
        assert f"{way} " in device.status()["why"]
    assert runs(load()) == ("store", 1)
    clock(NOW + 99.0)  # the clock was wrong for a while
    assert runs(runtime) == ("cloud", 1)
    with pytest.raises(DeviceInputError, match="keep, base"):
        load(when_expired="never")


def test_a_device_with_a_root_trusts_what_it_delegates(rooted: Load) -> None:
    runtime = rooted(public_key=public_key_hex(NEXT))  # which counts for nothing
    assert (runtime.public_key, runtime.status()["generation"]) == (None, 0)
    with pytest.raises(CloudError, match="delegated"):
        runtime.trust(public_key_hex(ONLINE))
    assert runtime.follow([], word(1, ONLINE))
    assert not runtime.follow([], word(1, ONLINE))
    give(runtime, 7, generation=1)
    with pytest.raises(protocol.WrongGeneration):
        give(runtime, 8, generation=2)
    assert not runtime.follow([endorse(ONLINE, public_key_hex(NEXT))])  # online keys endorse nobody
    for again in (runtime, rooted()):
        assert again.public_key == public_key_hex(ONLINE)
        assert again.request is not None
        assert runs(again)[1] == 7


def test_a_key_of_another_generation_begins_anew(rooted: Load) -> None:
    runtime = rooted()
    runtime.follow([], word(1, ONLINE))
    give(runtime, 2**53 - 1, generation=1)
    runtime.heed(notice(2**53 - 1, generation=1))
    assert runtime.follow([], word(2, NEXT))
    assert (runs(runtime), runtime.status()["packages"]) == (("base", 0), [])
    give(runtime, 1, NEXT, generation=2)
    assert not runtime.heed(notice(1, generation=2, key=NEXT))
    assert not runtime.follow([], word(1, ONLINE))
    with pytest.raises(protocol.BadSignature, match="two keys in generation 2"):
        runtime.follow([], word(2, ONLINE))
    with pytest.raises(protocol.BadSignature):
        runtime.follow([], delegate(NEXT, generation=3, key=public_key_hex(NEXT), not_after=2**50))
    assert runs(rooted()) == ("store", 1)


def test_the_same_key_in_a_new_generation_keeps_what_it_signed(rooted: Load) -> None:
    runtime = rooted()
    runtime.follow([], word(1, ONLINE))
    give(runtime, 5, generation=1)
    assert runtime.follow([], word(2, ONLINE))
    assert runs(runtime) == ("cloud", 5)
    with pytest.raises(protocol.WrongGeneration):
        give(runtime, 6, generation=1)
    give(runtime, 1, generation=2)
    assert runs(rooted()) == ("store", 1)


def test_a_delegation_ends(rooted: Load, clock: Any) -> None:
    runtime = rooted()
    runtime.follow([], word(1, ONLINE, NOW + 10))
    give(runtime, 1, generation=1)
    clock(NOW + 10.0)
    with pytest.raises(protocol.BadSignature, match="ended"):
        give(runtime, 2, generation=1)
    with pytest.raises(protocol.BadSignature, match="ended"):
        rooted(store=None).follow([], word(2, NEXT, NOW + 10))
    assert runs(rooted()) == ("store", 1)
    assert runtime.follow([], word(2, ONLINE))
    give(runtime, 2, generation=2)


def test_a_damaged_delegation_is_asked_for_again(rooted: Load, tmp_path: Path) -> None:
    runtime = rooted()
    runtime.follow([], word(1, ONLINE))
    give(runtime, 1, generation=1)
    (kept,) = (tmp_path / "store").glob("*/delegation.json")
    kept.write_text("{")
    again = rooted()
    assert (again.public_key, runs(again)) == (None, ("base", 0))
    again.follow([], word(1, ONLINE))
    give(again, 1, generation=1)


def test_a_new_artifact_with_another_key_begins_anew(load: Load) -> None:
    runtime = load()
    give(runtime, 2**53 - 1)
    other = load(public_key=public_key_hex(NEXT))
    assert (runs(other), other.status()["refused"]["error"]) == (("base", 0), "BadSignature")
    give(other, 1, NEXT)
    assert runs(load(public_key=public_key_hex(NEXT))) == ("store", 1)


def test_a_store_of_before_keys_were_pinned_begins_anew_too(load: Load, tmp_path: Path) -> None:
    give(load(), 9)
    (pinned,) = (tmp_path / "store").glob("*/cloud.key")
    pinned.unlink()
    assert runs(load()) == ("store", 9)
    other = load(public_key=public_key_hex(NEXT))
    give(other, 1, NEXT)
    assert runs(other) == ("cloud", 1)


def test_a_root_refuses_an_artifact_that_it_has_not_signed(
    rooted: Load, bundle: Path, tmp_path: Path
) -> None:
    root = public_key_hex(ROOT)
    assert rooted(root=root).root == root
    with pytest.raises(BundleError, match="this device trusts"):
        rooted(root=public_key_hex(NEXT))
    manifest = bundle / "manifest.json"
    signed = manifest.read_bytes()
    manifest.write_bytes(signed + b" ")
    for given in (root, None):
        with pytest.raises(BundleError, match="not the root's signature"):
            rooted(root=given)
    manifest.write_bytes(signed)
    (bundle / "manifest.sig").unlink()
    with pytest.raises(BundleError, match=r"manifest\.sig cannot be read"):
        rooted()
    plain = make_bundle(tmp_path / "plain")
    with pytest.raises(BundleError, match="names no root"):
        DeviceRuntime.load(plain, "cam-1", root=root)
    told = json.loads((plain / "manifest.json").read_text()) | {"root": "x"}
    (plain / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match="names no root"):
        DeviceRuntime.load(plain, "cam-1")


def test_users_follow_as_their_device_does(load: Load, clip: Callable[..., np.ndarray]) -> None:
    runtime = load()
    give(runtime.for_user("anna"), 1)
    assert runtime.follow([endorse(ONLINE, public_key_hex(NEXT))])
    anna = runtime.for_user("anna")
    assert (runs(anna), anna.public_key) == (("store", 1), public_key_hex(NEXT))
    give(anna, 2, NEXT)


def test_root_files_are_not_written_over(tmp_path: Path) -> None:
    key, out = tmp_path / "root.key", tmp_path / "word.json"
    told = ["--public-key", public_key_hex(ONLINE), "--generation", "1", "--out", str(out)]

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(paramcast, ["root", *words])
        return done.exit_code, done.output + str(done.exception)

    code, public = run("new", str(key))
    assert (code, key.stat().st_mode & 0o077) == (0, 0)
    assert "exists already" in run("new", str(key))[1]
    assert run("delegate", "--root", str(key), *told, "--days", "30")[0] == 0
    made = protocol.Delegation.read(out.read_bytes())
    made.check(public.split()[0])
    assert abs(made.not_after - time.time() - 30 * 86400) < 60
    assert "exists already" in run("delegate", "--root", str(key), *told)[1]
    told[1] = "x"
    assert "64 lower-case hex" in run("delegate", "--root", str(key), *told)[1]
    assert "no folder of an artifact" in run("sign", str(tmp_path), "--root", str(key))[1]
