"""The runtime by itself: answering, retrieving, observing, and what it refuses to be given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from bundles import ANSWERS, FORMS, IMAGE_UP, MODEL, TEXT_UP, base_parameters, make_bundle

from paramcast.device import DeviceInputError, DeviceRuntime
from paramcast.protocol import AdaptRequest, Package, SigningKey, public_key_hex, seal

Clip = Callable[..., np.ndarray]


def sealed(runtime: DeviceRuntime, key: SigningKey, scale: float = 1.0, **changes: Any) -> bytes:
    """A good package whose parameters are the base times `scale` plus a little."""
    rng = np.random.default_rng(3)
    tensors = {
        name: (scale * (values + rng.normal(size=values.shape))).astype("f4")
        for name, values in base_parameters(runtime.bundle.form).items()
    }
    package = Package(runtime.device_id, MODEL, 1, 2**40, runtime.bundle.form, "fp32", tensors)
    return seal(dataclasses.replace(package, **changes), key)


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_those_of_the_graph(tmp_path: Path, clip: Clip, key: SigningKey, form: str) -> None:
    folder = make_bundle(tmp_path / "b", form=form, public_key=public_key_hex(key))
    runtime = DeviceRuntime.load(folder, "cam-1")
    questions = ["what colour is the ball", "who is there"]
    package = runtime.apply(sealed(runtime, key))
    session = onnxruntime.InferenceSession(folder / "answer.onnx")
    image = onnxruntime.InferenceSession(folder / "image.onnx").run(None, {"frames": clip()})[0]
    texts = runtime._graphs.text(questions)
    logits = session.run(None, {"frames": image[None], "questions": texts, **package.tensors})[0]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for answer, row in zip(runtime.answer(clip(), questions), expected, strict=True):
        assert answer.text == ANSWERS[row.argmax()]
        assert answer.probability == pytest.approx(row.max(), abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_choices_are_those_of_the_graph(tmp_path: Path, clip: Clip, key: SigningKey, form: str) -> None:
    folder = make_bundle(tmp_path / "b", task="choice", form=form, public_key=public_key_hex(key))
    runtime = DeviceRuntime.load(folder, "cam-1")
    asked = {"what colour is the ball": ["red", "blue"], "who is there": ["a dog", "the cat", "a man", "who"]}
    base = runtime.choose(clip(), list(asked), list(asked.values()))
    package = runtime.apply(sealed(runtime, key))
    session = onnxruntime.InferenceSession(folder / "choose.onnx")
    image = onnxruntime.InferenceSession(folder / "image.onnx").run(None, {"frames": clip()})[0]
    chosen = runtime.choose(clip(), list(asked), list(asked.values()))
    assert chosen != base
    for answer, (question, options) in zip(chosen, asked.items(), strict=True):
        texts = runtime._graphs.text([question, *options])
        feed = {"frames": image[None], "questions": texts[:1], "options": texts[None, 1:]}
        logits = session.run(None, {**feed, **package.tensors})[0][0]
        assert answer.text == options[logits.argmax()]
        assert answer.probability == pytest.approx((np.exp(logits) / np.exp(logits).sum()).max(), abs=1e-6)


def test_the_order_of_options_does_not_matter(tmp_path: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(make_bundle(tmp_path / "b", task="choice"), "cam-1")
    (chosen,) = runtime.choose(clip(), ["who"], [["dog", "cat", "man"]])
    (again,) = runtime.choose(clip(), ["who"], [("man", "dog", "cat")])
    assert again.text == chosen.text
    assert again.probability == pytest.approx(chosen.probability, abs=1e-6)
    assert runtime.choose(clip(), ["who"], [["dog"]])[0].probability == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "0 lists of options for 1 questions"),
        ([["red"], ["blue"]], "2 lists of options for 1 questions"),
        ([[]], "question 1 needs a list of options"),
        (["red"], "question 1 needs a list of options"),
        ([["red", ""]], "option, question or query"),
        ([["red", 7]], "option, question or query"),
    ],
)
def test_options_that_cannot_be_chosen_among(tmp_path: Path, clip: Clip, options: Any, message: str) -> None:
    runtime = DeviceRuntime.load(make_bundle(tmp_path / "b", task="choice"), "cam-1")
    with pytest.raises(DeviceInputError, match=message):
        runtime.choose(clip(), ["who"], options)


def test_a_text_does_not_depend_on_its_neighbors(bundle: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    together = runtime.answer(clip(), ["who", "what colour is the ball there"])
    assert [runtime.answer(clip(), [text])[0].text for text in ("who", "what colour is the ball there")] == [
        answer.text for answer in together
    ]


@pytest.mark.parametrize("frames", [1, 2, 17, 64])
def test_any_length_and_size_of_clip(bundle: Path, frames: int) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    assert runtime.answer(np.zeros((frames, 1 + frames, 3, 3), np.uint8), ["who"])[0].text in ANSWERS


def test_large_frames_are_run_one_by_one(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    runs: list[int] = []
    run = runtime._graphs._run
    monkeypatch.setattr(
        runtime._graphs, "_run", lambda name, feed: runs.append(len(feed["frames"])) or run(name, feed)
    )
    frames = np.random.default_rng(0).integers(0, 255, (3, 2160, 3840, 3), dtype=np.uint8)
    assert len(runtime._graphs.image(frames)) == 3
    assert runs == [1, 1, 1]


def test_a_question_of_ten_thousand_characters(bundle: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    long = "what colour is the ball " * 420
    assert runtime.answer(clip(), [long])[0] == runtime.answer(clip(), [long + "dog " * 99])[0]


def test_the_request_is_what_was_observed(bundle: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    frames = clip(0, 5)
    runtime.observe(frames, ["who is there"] * 10)
    runtime.observe(clip(1), [])
    request = runtime.request()
    assert (request.device, request.model, request.sequence) == ("cam-1", MODEL, 0)
    assert request.anchors.shape == (2, IMAGE_UP)
    assert request.queries.shape == (1, TEXT_UP)  # one mean a clip, none where nothing was asked
    assert request.clip_of_query.tolist() == [0]
    uplink = runtime.bundle.image
    anchor = (runtime._graphs.image(frames[2:3]) - uplink.mean) @ uplink.matrix
    np.testing.assert_allclose(request.anchors[:1], anchor, rtol=1e-6)
    assert AdaptRequest.decode(request.encode()).anchors.shape == (2, IMAGE_UP)


def test_the_support_set_keeps_the_last_64_clips(bundle: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    for seed in range(70):
        runtime.observe(clip(seed, 1), ["who"])
    assert runtime.status()["support"] == 64
    first = runtime.request().anchors[0]
    fresh = DeviceRuntime.load(bundle, "cam-1")
    fresh.observe(clip(6, 1), ["who"])
    np.testing.assert_array_equal(first, fresh.request().anchors[0])


def test_an_empty_support_set_is_an_error(bundle: Path) -> None:
    with pytest.raises(DeviceInputError, match="observe at least one example"):
        DeviceRuntime.load(bundle, "cam-1").request()


@pytest.mark.parametrize(
    "frames",
    [
        None,
        [[0]],
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((65, 4, 4, 3), np.uint8),
        np.zeros((1, 0, 4, 3), np.uint8),
        np.zeros((1, 8193, 1, 3), np.uint8),
    ],
    ids=lambda frames: str(getattr(frames, "shape", frames)),
)
def test_frames_that_cannot_be_used(bundle: Path, frames: Any) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    with pytest.raises(DeviceInputError, match=r"frame"):
        runtime.answer(frames, ["who"])
    with pytest.raises(DeviceInputError, match=r"frame"):
        runtime.observe(frames, ["who"])


@pytest.mark.parametrize("text", ["", "  \n", None, 7, "\ud800"], ids=repr)
def test_texts_that_cannot_be_used(bundle: Path, clip: Clip, text: Any) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    with pytest.raises(DeviceInputError, match="question or query"):
        runtime.answer(clip(), ["who", text])
    with pytest.raises(DeviceInputError, match="question or query"):
        runtime.observe(clip(), [text])
    assert runtime.status()["support"] == 0


def test_calls_that_cannot_be_answered(bundle: Path, tmp_path: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    with pytest.raises(DeviceInputError, match="no question"):
        runtime.answer(clip(), [])
    with pytest.raises(DeviceInputError, match="for qa"):
        runtime.retrieve("dog")
    with pytest.raises(DeviceInputError, match="needs one for choice"):
        runtime.choose(clip(), ["who"], [["dog", "cat"]])
    chooser = DeviceRuntime.load(make_bundle(tmp_path / "c", task="choice"), "cam-1")
    with pytest.raises(DeviceInputError, match="no question"):
        chooser.choose(clip(), [], [])
    with pytest.raises(DeviceInputError, match="for choice"):
        chooser.answer(clip(), ["who"])
    finder = DeviceRuntime.load(make_bundle(tmp_path / "r", task="retrieval"), "cam-1")
    with pytest.raises(DeviceInputError, match="for retrieval"):
        finder.answer(clip(), ["who"])
    with pytest.raises(DeviceInputError, match="gallery is empty"):
        finder.retrieve("dog")
    finder.index("a", clip())
    with pytest.raises(DeviceInputError, match="top"):
        finder.retrieve("dog", top=0)


@pytest.mark.parametrize(("device", "public_key"), [("", None), ("a/b", None), ("cam-1", "no key")])
def test_ids_and_keys_are_checked(bundle: Path, device: str, public_key: str | None) -> None:
    with pytest.raises(DeviceInputError):
        DeviceRuntime.load(bundle, device, public_key=public_key)


@pytest.mark.parametrize("form", FORMS)
def test_retrieval_ranks_by_cosine_and_follows_a_swap(
    tmp_path: Path, clip: Clip, key: SigningKey, form: str
) -> None:
    folder = make_bundle(tmp_path / "b", task="retrieval", form=form, public_key=public_key_hex(key))
    runtime = DeviceRuntime.load(folder, "cam-1")
    for seed in range(6):
        runtime.index(f"clip-{seed}", clip(seed, frames=1 + seed % 2))
    before = runtime.retrieve("red dog", top=6)
    assert [hit.score for hit in before] == sorted((hit.score for hit in before), reverse=True)
    assert all(-1.001 <= hit.score <= 1.001 for hit in before)
    runtime.apply(sealed(runtime, key))
    after = runtime.retrieve("red dog", top=6)
    assert [hit.score for hit in after] != [hit.score for hit in before]
    alone = DeviceRuntime.load(folder, "cam-1")
    alone.apply(sealed(alone, key))
    for seed in range(6):
        alone.index(f"clip-{seed}", clip(seed, frames=1 + seed % 2))
    fresh = {hit.clip_id: hit.score for hit in alone.retrieve("red dog", top=6)}
    assert fresh == pytest.approx({hit.clip_id: hit.score for hit in after}, abs=1e-6)
    assert runtime.retrieve("red dog", top=2) == after[:2]


def test_a_clip_indexed_again_is_replaced(tmp_path: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(make_bundle(tmp_path / "b", task="retrieval"), "cam-1")
    runtime.index("a", clip(0))
    runtime.index("b", clip(1))
    first = runtime.retrieve("dog")
    runtime.index("a", clip(2))
    assert len(runtime.retrieve("dog")) == 2
    assert runtime.retrieve("dog") != first
