"""Weights as constants: the same answers, from a graph that has no package tensors as inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import FORMS, base_parameters, make_bundle
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_device_runtime import sealed

from paramcast.artifact.onnx_file import bake
from paramcast.device import DeviceRuntime
from paramcast.protocol import SigningKey, public_key_hex

Clip = Callable[..., np.ndarray]
ASK: dict[str, Callable[[DeviceRuntime, np.ndarray], Any]] = {
    "qa": lambda runtime, frames: runtime.answer(frames, ["who", "what colour is the ball"]),
    "choice": lambda runtime, frames: runtime.choose(frames, ["who"], [["dog", "cat", "man"]]),
    "retrieval": lambda runtime, frames: runtime.retrieve("red dog"),
}


def figures(answers: Any) -> list[float]:
    return [answer.score if hasattr(answer, "score") else answer.probability for answer in answers]


@pytest.mark.parametrize("form", FORMS)
def test_a_baked_file_is_a_sound_model_without_package_inputs(tmp_path: Path, form: str) -> None:
    folder = make_bundle(tmp_path / "b", form=form)
    values = {name: v + 1 for name, v in base_parameters(form).items()}
    baked = bake((folder / "answer.onnx").read_bytes(), values)
    model = onnx.load_from_string(baked)
    onnx.checker.check_model(model, full_check=True)
    assert {node.name for node in model.graph.input} == {"frames", "questions"}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, value in values.items():
        np.testing.assert_array_equal(constants[name], value)
    feed = {"frames": np.ones((1, 3, 12), "f4"), "questions": np.ones((2, 8), "f4")}
    plain = onnxruntime.InferenceSession(folder / "answer.onnx").run(None, feed | values)[0]
    np.testing.assert_allclose(onnxruntime.InferenceSession(baked).run(None, feed)[0], plain, atol=1e-5)


@pytest.mark.parametrize("task", ASK)
def test_baked_answers_are_the_same_until_the_next_package(
    tmp_path: Path, clip: Clip, key: SigningKey, task: str
) -> None:
    folder = make_bundle(tmp_path / "b", task=task, public_key=public_key_hex(key))
    runtime = DeviceRuntime.load(folder, "cam-1")
    if task == "retrieval":
        for seed in range(3):
            runtime.index(f"clip-{seed}", clip(seed))
    ask = ASK[task]
    runtime.apply(sealed(runtime, key))
    before = ask(runtime, clip())
    assert runtime.bake()
    assert runtime.status()["baked"]
    assert figures(ask(runtime, clip())) == pytest.approx(figures(before), abs=1e-6)
    runtime.apply(sealed(runtime, key, sequence=2, tensors=base_parameters("full")))
    assert not runtime.status()["baked"]
    assert figures(ask(runtime, clip())) != pytest.approx(figures(before), abs=1e-6)


def test_a_package_that_comes_while_baking_is_not_lost(
    tmp_path: Path, clip: Clip, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = DeviceRuntime.load(make_bundle(tmp_path / "b", public_key=public_key_hex(key)), "cam-1")
    make = runtime._graphs.baked

    def slow(parameters: Any) -> Any:
        runtime.apply(sealed(runtime, key))
        return make(parameters)

    monkeypatch.setattr(runtime._graphs, "baked", slow)
    assert not runtime.bake()
    assert (runtime.status()["sequence"], runtime.status()["baked"]) == (1, False)


@given(st.binary(max_size=64))
@example(b"=\0\0\0\0")  # the graph's number, on a field of four bytes
@settings(max_examples=300, deadline=None)
def test_other_bytes_are_kept_or_refused(data: bytes) -> None:
    try:
        baked = bake(data, {})
    except ValueError:
        return
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf checks more than how fields are laid out
        return
    assert onnx.ModelProto.FromString(baked).SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )
