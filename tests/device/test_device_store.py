"""What is kept over a restart: history, its bounds, users and tasks, damage, and SIGKILL at every write."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from test_device_runtime import sealed

from paramcast import protocol
from paramcast.device import DeviceInputError, DeviceRuntime, PackageLost
from paramcast.device import store as store_module
from paramcast.device.store import MAX_PACKAGES, Kept, PackageStore, StoreState, _read_state
from paramcast.protocol import SigningKey, endorse, make_key, public_key_hex

Clip = Callable[..., np.ndarray]
DAY = 86400
CLOCK = "paramcast.device.parameters._clock"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def load(bundle: Path, store: Path, key: SigningKey) -> Callable[[], DeviceRuntime]:
    """Starts the device, again and again on the same store."""
    return lambda: DeviceRuntime.load(bundle, "cam-1", store=store, public_key=public_key_hex(key))


def files(store: Path) -> list[Path]:
    return sorted(store.glob("*/*.pcpk"), key=lambda path: path.stat().st_mtime_ns)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_back_to_any_earlier_package(load: Any, clip: Clip, key: SigningKey) -> None:
    runtime = load()
    answers = {0: runtime.answer(clip(), ["who"])}
    for number in (1, 2, 5):
        runtime.apply(sealed(runtime, key, scale=number / 2, sequence=number))
        answers[number] = runtime.answer(clip(), ["who"])
    assert len({answer[0].probability for answer in answers.values()}) == 4
    assert runtime.status()["packages"] == [1, 2, 5]
    for target in (1, 5, 0, 2):
        runtime.roll_back(target)
        again = load()
        for device in (runtime, again):
            assert device.answer(clip(), ["who"]) == answers[target]
            assert device.status()["sequence"] == target
        assert again.status()["refused"] is None
    runtime.roll_back()
    assert runtime.status()["why"] == "rolled back to package 1"
    runtime.roll_back()
    assert runtime.status()["why"] == load().status()["why"] == "rolled back to the base model"
    with pytest.raises(protocol.StaleSequence):  # what has been rolled back cannot be sent again
        runtime.apply(sealed(runtime, key, sequence=5))
    runtime.apply(sealed(runtime, key, sequence=6))
    assert load().status()["sequence"] == 6


def test_only_to_what_is_there(load: Any, bundle: Path, store: Path, key: SigningKey) -> None:
    runtime = load()
    with pytest.raises(DeviceInputError, match="no package 7; it holds: none"):
        runtime.roll_back(7)
    runtime.apply(sealed(runtime, key))
    runtime.apply(sealed(runtime, key, sequence=2, scale=2))
    with pytest.raises(DeviceInputError, match="no package 7; it holds: 1, 2"):
        runtime.roll_back(7)
    flipped(files(store)[0])
    with pytest.raises(PackageLost):
        runtime.roll_back(1)
    assert runtime.status()["sequence"] == 2
    loose = DeviceRuntime.load(bundle, "cam-1", public_key=public_key_hex(key))
    loose.apply(sealed(loose, key))
    loose.roll_back()
    assert loose.status()["source"] == "base"


def test_a_damaged_package_means_the_one_before(load: Any, store: Path, key: SigningKey) -> None:
    runtime = load()
    for number in (1, 2, 3):
        runtime.apply(sealed(runtime, key, sequence=number, scale=number))
    flipped(files(store)[2])
    status = load().status()
    assert (status["source"], status["sequence"], status["refused"]["error"]) == ("store", 2, "PackageLost")
    assert "newest in the store that may be run: package 3 is missing" in status["why"]
    files(store)[1].unlink()
    assert load().status()["sequence"] == 1
    for path in files(store):
        path.unlink()
    last = load()
    status = last.status()
    assert (status["source"], status["refused"]["error"]) == ("base", "PackageLost")
    assert "no package in the store may be run" in status["why"]
    with pytest.raises(protocol.StaleSequence):
        last.apply(sealed(last, key, sequence=3))


@pytest.mark.parametrize(
    "state", [None, b"", b"\xff\xfe", b"[" * 100_000, b'{"format": 2}', b'{"format": 1}']
)
def test_without_its_state_the_packages_speak_for_themselves(
    load: Any, store: Path, key: SigningKey, state: bytes | None
) -> None:
    runtime = load()
    for number in (1, 2):
        runtime.apply(sealed(runtime, key, sequence=number, scale=number))
    (path,) = store.glob("*/state.json")
    path.unlink() if state is None else path.write_bytes(state)
    status = load().status()
    assert (status["source"], status["sequence"], status["packages"]) == ("store", 2, [1, 2])


@given(
    changes=st.dictionaries(
        st.sampled_from(["format", "highest", "clock", "running", "kept"]),
        st.none()
        | st.integers(-1, 3)
        | st.floats()
        | st.text(max_size=3)
        | st.lists(
            st.dictionaries(
                st.sampled_from(["sha256", "sequence", "expires", "taken"]),
                st.integers() | st.text(max_size=3),
            )
        ),
    )
)
@settings(max_examples=50, deadline=None)
def test_a_state_is_sound_or_none(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]) -> None:
    slot = tmp_path_factory.getbasetemp() / "slot"
    slot.mkdir(exist_ok=True)
    whole = {"format": 1, "highest": 1, "clock": 1.0, "running": None, "kept": []}
    (slot / "state.json").write_text(json.dumps(whole | changes))
    state = _read_state(slot)
    assert state is None or (state.highest >= 0 and abs(state.clock) < float("inf"))


def test_offline_for_weeks(load: Any, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken up in time is run on, over restarts too; nothing that has expired is taken up."""
    monkeypatch.setattr(CLOCK, lambda: 100.0 * DAY)
    runtime = load()
    runtime.apply(sealed(runtime, key, sequence=5, expires=101 * DAY))
    assert not runtime.status()["expired"]
    monkeypatch.setattr(CLOCK, lambda: 170.0 * DAY)
    assert runtime.status()["expired"]
    late = load()
    status = late.status()
    assert (status["source"], status["sequence"], status["expired"]) == ("store", 5, True)
    with pytest.raises(protocol.Expired):
        late.apply(sealed(late, key, sequence=6, expires=169 * DAY))
    with pytest.raises(protocol.StaleSequence):
        late.apply(sealed(late, key, sequence=5, expires=300 * DAY))


def test_a_lost_state_and_an_expired_package_mean_the_base(
    load: Any, store: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing says that it was taken up in time."""
    monkeypatch.setattr(CLOCK, lambda: 100.0)
    runtime = load()
    runtime.apply(sealed(runtime, key, sequence=5, expires=200))
    (path,) = store.glob("*/state.json")
    path.unlink()
    monkeypatch.setattr(CLOCK, lambda: 300.0)
    late = load()
    assert (late.status()["source"], late.status()["refused"]["error"]) == ("base", "Expired")
    with pytest.raises(protocol.StaleSequence):
        late.apply(sealed(late, key, sequence=5, expires=2**40))


def test_a_clock_that_is_set_back_revives_nothing(
    load: Any, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CLOCK, lambda: 400.0 * DAY)
    runtime = load()
    runtime.apply(sealed(runtime, key, sequence=1, expires=500 * DAY))
    monkeypatch.setattr(CLOCK, lambda: 35.0 * DAY)  # a year back
    for device in (runtime, load()):
        with pytest.raises(protocol.Expired):
            device.apply(sealed(device, key, sequence=2, expires=399 * DAY))
        assert device.status()["sequence"] == 1


def test_the_history_of_a_slot_is_bounded(load: Any, store: Path, key: SigningKey) -> None:
    runtime = load()
    for number in range(1, MAX_PACKAGES + 6):
        runtime.apply(sealed(runtime, key, sequence=number, scale=1 + number / 100))
        if number == 1:
            first = files(store)[0].name
    assert len(files(store)) == MAX_PACKAGES
    assert runtime.status()["packages"] == list(range(6, MAX_PACKAGES + 6))
    assert first not in {path.name for path in files(store)}
    runtime.roll_back(6)
    runtime.apply(sealed(runtime, key, sequence=50))
    assert load().status()["packages"] == [6, *range(8, MAX_PACKAGES + 6), 50]  # the one that ran stayed


def test_the_folder_is_bounded_and_nobody_s_running_package_goes(tmp_path: Path) -> None:
    def slot(name: str) -> PackageStore:
        return PackageStore(tmp_path, device=name, model="m", max_bytes=1000)

    def run(name: str, data: bytes, sequence: int) -> str:
        sha256 = slot(name).add(data, slot(name).state().running if slot(name).state() else None)
        known = slot(name).state() or StoreState()
        kept = (*known.kept, Kept(sha256, sequence, 9, 1.0))
        slot(name).save_state(StoreState(sequence, 1.0, sha256, kept))
        return sha256

    old = run("a", b"a" * 300, 1)
    running_a = run("a", b"b" * 300, 2)
    running_b = run("b", b"c" * 300, 1)
    newer_b = run("b", b"d" * 300, 2)  # makes room by the oldest that nobody runs, which is a's
    assert slot("a").digests() == [running_a]
    assert slot("a").load(old) is None
    assert set(slot("b").digests()) == {running_b, newer_b}
    with pytest.raises(OSError, match="no room") as full:
        slot("c").add(b"e" * 401, None)
    assert full.value.errno == errno.ENOSPC
    assert slot("a").digests() == [running_a]
    assert slot("b").digests() == [newer_b]
    assert slot("a").load(running_a) == b"b" * 300


def test_users_who_are_gone_keep_no_new_one_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as long as there is room, nobody's state is read for it."""

    def run(name: str, data: bytes) -> str:
        slot = PackageStore(tmp_path, device=name, model="m", max_bytes=1000)
        sha256 = slot.add(data, None)
        slot.save_state(StoreState(1, 1.0, sha256, (Kept(sha256, 1, 9, 1.0),)))
        return sha256

    def slot(name: str) -> PackageStore:
        return PackageStore(tmp_path, device=name, model="m", max_bytes=1000)

    with monkeypatch.context() as blind:
        blind.setattr(store_module, "_running", None)
        gone, here = run("gone", b"a" * 450), run("here", b"b" * 450)
    (state,) = slot("gone")._slot.glob("state.json")
    os.utime(state, (0, 0))
    new = run("new", b"c" * 450)
    assert slot("gone").digests() == []
    assert (slot("here").digests(), slot("new").digests()) == ([here], [new])
    with pytest.raises(OSError, match="no room"):
        slot("third").add(b"d" * 450, None)
    os.utime(next(slot("here")._slot.glob("state.json")), (0, 0))
    slot("here").clean()  # it is opened
    with pytest.raises(OSError, match="no room"):
        slot("third").add(b"d" * 450, None)
    slot("new").forget()
    slot("new").forget()
    assert slot("third").add(b"d" * 450, None) != gone


def test_a_full_slot_makes_room_without_the_states_of_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10,000 users, each package of a user with a full history took 2 s."""
    read: list[Path] = []
    monkeypatch.setattr(store_module, "_running", read.append)
    for name, count in (("other", 3), ("mine", MAX_PACKAGES + 3)):
        slot = PackageStore(tmp_path, device=name, model="m", max_bytes=1000)
        for number in range(count):
            slot.add(bytes([number]) * 10, None)
    assert read == []
    assert len(slot.digests()) == MAX_PACKAGES
    slot.add(b"x" * 820, None)  # the folder is full now: the oldest packages are those of the other user
    assert {path.name for path in read} == {PackageStore(tmp_path, device="other", model="m")._slot.name}


def test_users_and_tasks_share_a_folder_and_nothing_else(
    tmp_path: Path, store: Path, clip: Clip, key: SigningKey
) -> None:
    asks = make_bundle(tmp_path / "qa", public_key=public_key_hex(key))
    finds = make_bundle(tmp_path / "find", task="retrieval", model="c" * 64, public_key=public_key_hex(key))
    device = DeviceRuntime.load(asks, "cam-1", store=store)
    other_task = DeviceRuntime.load(finds, "cam-1", store=store)
    anna, bert = device.for_user("anna"), device.for_user("bert")
    base = device.answer(clip(), ["who"])
    anna.apply(sealed(anna, key))
    other_task.apply(sealed(other_task, key, model="c" * 64, sequence=3))
    assert device.answer(clip(), ["who"]) == bert.answer(clip(), ["who"]) == base
    assert anna.answer(clip(), ["who"]) != base
    anna.observe(clip(), ["who"])
    assert (anna.request().device, device.status()["support"]) == ("cam-1:anna", 0)
    with pytest.raises(protocol.WrongDevice):
        bert.apply(sealed(anna, key, sequence=2))
    again = DeviceRuntime.load(asks, "cam-1", store=store)
    assert again.status()["source"] == "base"
    assert again.for_user("anna").status()["sequence"] == 1
    before = set(store.iterdir())
    again.forget_user("anna")
    again.forget_user("nobody")
    assert len(before - set(store.iterdir())) == 1
    assert again.for_user("anna").status()["source"] == "base"
    with pytest.raises(DeviceInputError):
        again.forget_user("../cam-2")
    DeviceRuntime.load(asks, "cam-2").forget_user("anna")  # without a store there is nothing to erase
    assert DeviceRuntime.load(finds, "cam-1", store=store).status()["sequence"] == 3
    for name in ("", "a/b", "x" * 130):
        with pytest.raises(DeviceInputError):
            device.for_user(name)


def test_packages_outlive_the_key_that_they_were_signed_with(
    bundle: Path, store: Path, load: Any, key: SigningKey
) -> None:
    """The cloud changes its key: what ran is run on over restarts, and can be gone back to."""
    runtime, new = load(), make_key()
    runtime.apply(sealed(runtime, key))
    assert runtime.follow([endorse(key, public_key_hex(new))])
    assert load().status()["sequence"] == 1
    with pytest.raises(protocol.BadSignature):  # what arrives has to be signed with the new one
        runtime.apply(sealed(runtime, key, sequence=2))
    runtime.apply(sealed(runtime, new, sequence=2, scale=2))
    again = load()
    assert (again.status()["sequence"], again.public_key) == (2, public_key_hex(new))
    again.roll_back(1)
    assert load().status()["sequence"] == 1
    other = DeviceRuntime.load(bundle, "cam-1", store=store, public_key=public_key_hex(make_key()))
    assert (other.status()["source"], other.status()["refused"]["error"]) == ("base", "BadSignature")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_killed_at_every_write(tmp_path: Path, key: SigningKey) -> None:
    """Two packages and a roll-back; killed before each change of the file system, and within a write.

    A restart then runs what ran before or after the step that was cut, refuses nothing, leaves nothing half
    written, and takes up the next package.
    """
    bundle = make_bundle(tmp_path / "bundle")
    runtime = DeviceRuntime.load(bundle, "cam-1")
    for number in (1, 2, 3):
        (tmp_path / f"{number}.pcpk").write_bytes(sealed(runtime, key, scale=number, sequence=number))
    (tmp_path / "key").write_text(public_key_hex(key))
    command = [sys.executable, str(Path(__file__).with_name("kill_run.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [entry for entry in found if entry["what"].startswith("step")]
    assert len(steps) > 15
    sequences = [entry["status"]["sequence"] for entry in steps]
    turns = [sequences[0]] + [b for a, b in pairwise(sequences) if a != b]
    assert turns == [0, 1, 2, 1]  # in order, and nothing else between
    for entry in found:
        assert (entry["status"]["refused"], entry["status"]["store_error"]) == (None, None), entry
        assert (entry["after"], entry["halves"]) == (3, []), entry
    within = [entry for entry in found if entry["what"].startswith("byte")]
    assert len(within) >= 5
    assert all(entry["status"]["sequence"] == 1 for entry in within)
