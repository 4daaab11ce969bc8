"""Features that are kept: nothing is encoded twice, and answers stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramcast.device import DeviceRuntime
from paramcast.device.recent import RecentFeatures

Clip = Callable[..., np.ndarray]


def test_rows_that_are_kept_are_not_encoded_again() -> None:
    """Only what is missing is encoded, each once, and rows come in the order of the keys."""
    kept, asked = RecentFeatures(3), []

    def encode(places: list[int]) -> np.ndarray:
        asked.append(places)
        return np.array([[float(place)] for place in places], np.float32)

    assert kept.get([b"a", b"b", b"a"], encode).tolist() == [[2.0], [1.0], [2.0]]
    assert kept.get([b"c", b"b"], encode).tolist() == [[0.0], [1.0]]
    assert [sorted(places) for places in asked] == [[1, 2], [0]]


def test_the_least_recently_used_row_goes() -> None:
    """`b` was used again before the third key came."""
    kept, asked = RecentFeatures(2), []

    def encode(places: list[int]) -> np.ndarray:
        asked.append(len(places))
        return np.zeros((len(places), 1), np.float32)

    for keys in ([b"b"], [b"a"], [b"b"], [b"c"], [b"b"], [b"a"]):
        kept.get(keys, encode)
    assert asked == [1, 1, 1, 1]  # b, a, c, and a again
    kept.clear()
    kept.get([b"a"], encode)
    assert asked[-1] == 1
    assert len(asked) == 5


def test_rows_cannot_be_changed_from_outside() -> None:
    """What is given out is a copy."""
    kept = RecentFeatures(2)
    kept.get([b"a"], lambda _: np.ones((1, 2), np.float32))[:] = 7
    assert kept.get([b"a"], lambda _: np.empty((0, 2), np.float32)).tolist() == [[1.0, 1.0]]


@pytest.fixture
def runs(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DeviceRuntime, list[tuple[str, int]]]:
    """A device, and the rows that its trunks have run on."""
    runtime, seen = DeviceRuntime.load(bundle, "camera"), []
    run = runtime._graphs._run

    def counted(name: str, values: dict[str, Any]) -> np.ndarray:
        if name in ("image.onnx", "text.onnx"):
            seen.append((name, len(next(iter(values.values())))))
        return run(name, values)

    monkeypatch.setattr(runtime._graphs, "_run", counted)
    return runtime, seen


def test_a_device_encodes_frames_and_questions_once(
    runs: tuple[DeviceRuntime, list[tuple[str, int]]],
) -> None:
    """Answering, observing what was answered, and asking again: the trunks run for what is new alone."""
    runtime, seen = runs
    frames, question = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8), "what is it?"
    first = runtime.answer(frames, [question])
    assert seen == [("image.onnx", 3), ("text.onnx", 1)]
    del seen[:]
    runtime.observe(frames, [question])
    assert runtime.answer(frames, [question]) == first
    assert not seen
    runtime.for_user("anna").answer(frames, [question, "who is it?"])
    assert seen == [("text.onnx", 1)]
    del seen[:]
    runtime.clear_cache()
    assert runtime.answer(frames, [question]) == first
    assert seen == [("image.onnx", 3), ("text.onnx", 1)]


def test_frames_of_other_sizes_with_the_same_bytes_are_others(
    runs: tuple[DeviceRuntime, list[tuple[str, int]]],
) -> None:
    """A picture of 4 x 9 pixels is not one of 9 x 4."""
    runtime, seen = runs
    flat = np.random.default_rng(0).integers(0, 256, 36 * 3, dtype=np.uint8)
    for shape in ((1, 4, 9, 3), (1, 9, 4, 3)):
        runtime.answer(flat.reshape(shape), ["what is it?"])
    assert [name for name, _ in seen].count("image.onnx") == 2


def test_a_device_at_its_base_shares_the_model(bundle: Path, clip: Clip) -> None:
    """It has neither the store nor the support set."""
    runtime = DeviceRuntime.load(bundle, "camera")
    runtime.observe(clip(1, 2), ["what is it?"])
    base = runtime.at_base()
    assert base.status()["source"] == "base"
    assert base.device_id == runtime.device_id
    assert base.answer(clip(2, 2), ["who?"]) == runtime.answer(clip(2, 2), ["who?"])
