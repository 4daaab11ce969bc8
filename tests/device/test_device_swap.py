"""Eight threads answer while packages are swapped: none waits for a lock, none sees half of a swap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import base_parameters, make_bundle
from test_device_runtime import sealed

from paramcast.device import DeviceRuntime
from paramcast.device.parameters import Snapshot
from paramcast.protocol import SigningKey, public_key_hex

Clip = Callable[..., np.ndarray]
SWAPS = 200
READERS = 8


def made(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=v.shape).astype("f4") for name, v in base_parameters("full").items()}


def ask(runtime: DeviceRuntime, clip: Clip) -> Any:
    if runtime.bundle.task == "retrieval":
        return tuple(runtime.retrieve("red dog"))
    return runtime.answer(clip(), ["who"])[0]


def make_runtime(folder: Path, clip: Clip, key: SigningKey) -> DeviceRuntime:
    runtime = DeviceRuntime.load(folder, "cam-1", public_key=public_key_hex(key))
    if runtime.bundle.task == "retrieval":
        for seed in range(3):
            runtime.index(f"clip-{seed}", clip(seed))
    return runtime


def swap_as_it_is_done(runtime: DeviceRuntime, package: bytes, tensors: Mapping[str, np.ndarray]) -> None:
    runtime.apply(package)


def swap_tensor_by_tensor(runtime: DeviceRuntime, package: bytes, tensors: Mapping[str, np.ndarray]) -> None:
    """What must not be done: the snapshot's arrays are exchanged one after the other."""
    parameters: Any = runtime._parameters.current.parameters
    for name, values in tensors.items():
        parameters[name] = values
        time.sleep(0)  # lets other threads run


@pytest.mark.parametrize("task", ["qa", "retrieval"])
@pytest.mark.parametrize(
    ("swap", "torn"), [(swap_as_it_is_done, False), (swap_tensor_by_tensor, True)], ids=["whole", "torn"]
)
def test_eight_threads_and_two_hundred_swaps(
    tmp_path: Path, clip: Clip, key: SigningKey, task: str, swap: Callable[..., None], torn: bool
) -> None:
    """There are four sets of parameters; a mixture of two gives other answers than any of them.

    That the same test finds a swap which is not atomic shows that it would.
    """
    folder = make_bundle(tmp_path / "b", task=task)
    runtime = make_runtime(folder, clip, key)
    whole = [made(seed) for seed in range(4)]
    expected = set()
    for tensors in whole:
        alone = make_runtime(folder, clip, key)
        alone.apply(sealed(alone, key, tensors=tensors))
        expected.add(ask(alone, clip))
    assert len(expected) == 4
    packages = [sealed(runtime, key, sequence=n, tensors=whole[n % 4]) for n in range(1, SWAPS + 1)]
    runtime.apply(packages[0])
    if torn:
        now = runtime._parameters.current
        loose = dict(now.parameters)
        runtime._parameters._running = Snapshot(loose, loose, "cloud", 1, None, "to be torn")
    done = threading.Event()
    seen: list[set[Any]] = [set() for _ in range(READERS)]
    errors: list[Exception] = []

    def read(answers: set[Any]) -> None:
        try:
            while not done.is_set():
                answers.add(ask(runtime, clip))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(answers,)) for answers in seen]
    for thread in threads:
        thread.start()
    for number, package in enumerate(packages[1:], start=2):
        swap(runtime, package, whole[number % 4])
        if torn and any(len(answers) > len(expected) for answers in seen):
            break
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(seen)
    assert (set().union(*seen) <= expected) is not torn


@pytest.mark.parametrize("task", ["qa", "retrieval"])
def test_an_answer_takes_no_lock(tmp_path: Path, clip: Clip, key: SigningKey, task: str) -> None:
    """Every lock that the runtime has is held by somebody else, and it answers all the same."""
    runtime = make_runtime(make_bundle(tmp_path / "b", task=task), clip, key)
    runtime.apply(sealed(runtime, key))
    parts = [runtime, runtime._parameters, runtime._gallery, runtime._support, runtime._graphs]
    locks = [value for part in parts for value in vars(part).values() if hasattr(value, "acquire")]
    assert len(locks) == 3
    answers: list[Any] = []
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        thread = threading.Thread(target=lambda: answers.append(ask(runtime, clip)), daemon=True)
        thread.start()
        thread.join(10)
    assert len(answers) == 1
