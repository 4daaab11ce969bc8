"""What evaluation reports of ties, of several answers and captions, and of questions without pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from paramcast.training.controls import Metric
from paramcast.video.data.clip import Clip, CollectionError, Question
from paramcast.video.data.collection import Collection
from paramcast.video.shifts.fleet import Device
from paramcast.video.tasks import make_task
from paramcast.video.tasks.choice import MultipleChoice
from paramcast.video.training.arrays import NO_ANSWER, UNKNOWN, ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.plan import check_sentences
from paramcast.video.training.views import View


def collection(*clips: Clip) -> Collection:
    return Collection(Path(), "made", clips, {clip.id: clip for clip in clips})


def bank_of(views: list[View]) -> Bank:
    texts = list(dict.fromkeys(text for view in views for text in view.texts()))
    keys = list(dict.fromkeys(key for view in views for key in view.clip_keys()))
    return Bank(
        torch.ones(len(keys), 1, 4),
        torch.ones(len(keys), 1, dtype=torch.bool),
        {key: place for place, key in enumerate(keys)},
        torch.ones(len(texts), 4),
        {text: place for place, text in enumerate(texts)},
    )


def data_of(clips: list[Clip], task: str, answers: dict[str, int] | None = None) -> tuple[Bank, DeviceData]:
    """A device that is scored on `clips`."""
    made, about = collection(*clips), make_task(task)
    views = [View(clip, None, about, made.distractors, scored=True) for clip in clips]
    options = max((len(each) for view in views for each in view.options), default=0)
    bank = bank_of(views)
    data = tuple(view.data(bank, answers or {}, options) for view in views)
    device = Device("d", "test", (), tuple(clip.id for clip in clips), (), None, {}, "made")
    return bank, DeviceData(device, data, 0, np.empty(0, np.float32))


def clip(number: int, **change: object) -> Clip:
    return Clip(f"c{number}", Path(), number + 1, video=f"v{number}.mp4", **change)  # type: ignore[arg-type]


def test_all_clips_alike_are_a_guess() -> None:
    _, device = data_of([clip(n, captions=(f"text {n}",)) for n in range(200)], "retrieval")
    found = make_task("retrieval").figures(torch.full((200, 200), 0.4), device)
    assert found[Metric("r@1", "collection")] == pytest.approx(0.5)
    assert found[Metric("r@10", "device")] == pytest.approx(5.0)


def test_every_caption_is_asked_for() -> None:
    clips = [clip(n, captions=tuple(f"text {n} {k}" for k in range(3))) for n in range(4)]
    _, device = data_of(clips, "retrieval")
    task = make_task("retrieval")
    asked = task.asked(device, device.clips)
    assert len(asked.texts) == 12
    assert len(asked.shown) == 4
    scores = np.zeros((12, 4), np.float32)
    scores[np.arange(12), np.arange(12) // 3] = 1
    assert set(task.figures(torch.from_numpy(scores), device).values()) == {100.0}
    scores[0, 1] = 2  # one caption of twelve leads to another clip
    assert task.figures(torch.from_numpy(scores), device)[Metric("r@1", "device")] == pytest.approx(
        100 * 11 / 12
    )


def test_what_is_sent_of_a_clip_is_what_training_sends() -> None:
    _, device = data_of([clip(0, captions=("first", "second"))], "retrieval")
    assert len(device.clips[0].queries) == 1


def test_sentences_of_frames_tie_too() -> None:
    pictures = tuple(f"{n}.png" for n in range(4))
    sentences = tuple("abcd")
    made = [Clip("c", Path(), 1, frames=pictures, frame_captions=sentences)]
    _, device = data_of(made, "retrieval")
    found = make_task("retrieval").figures(torch.zeros(4, 4), device)
    assert found[Metric("match3")] == pytest.approx(25.0)


ANSWERS = {"cat": 0, "dog": 1, "two": 2}


def logits(*best: int) -> torch.Tensor:
    found = torch.zeros(len(best), 3)
    found[torch.arange(len(best)), torch.tensor(best)] = 1
    return found


@pytest.mark.parametrize("spelling", ["cat", "Cat", "a cat", "cat.", "cat\n", "CAT "])
def test_an_answer_counts_however_it_is_spelled(spelling: str) -> None:
    _, device = data_of([clip(0, qa=(Question("what?", spelling),))], "qa", {"cat": 0, "2": 2})
    assert make_task("qa").figures(logits(0), device) == {Metric("top1"): 100.0}
    assert make_task("qa").figures(logits(1), device) == {Metric("top1"): 0.0}


def test_several_answers() -> None:
    several = Question("what?", "cat", answers=("cat", "cat", "dog", "cow"))
    _, device = data_of([clip(0, qa=(several,))], "qa", {"cat": 0, "dog": 1, "2": 2})
    task = make_task("qa")
    assert sorted(device.clips[0].right[0].tolist()) == [UNKNOWN, 0, 0, 1]
    assert task.figures(logits(0), device)[Metric("top1")] == 100.0
    assert task.figures(logits(1), device)[Metric("top1")] == 100.0
    assert task.figures(logits(2), device) == {Metric("top1"): 0.0, Metric("consensus"): 0.0}
    # Of four people, two say cat: leaving out one of these, one of three agrees, else two.
    assert task.figures(logits(0), device)[Metric("consensus")] == pytest.approx(100 * (2 / 3 + 4 / 3) / 4)


def test_one_answer_has_no_consensus_beside_it() -> None:
    mixed = (Question("a?", "cat"), Question("b?", "cat", answers=("cat", "dog")))
    _, device = data_of([clip(0, qa=mixed)], "qa", {"cat": 0})
    assert device.clips[0].right.tolist() == [[0, NO_ANSWER], [0, UNKNOWN]]


def test_questions_with_their_own_numbers_of_options() -> None:
    qa = (Question("why?", "c", options=tuple("abcde")), Question("who?", "y", options=("x", "y")))
    bank, device = data_of([clip(0, qa=qa)], "choice")
    items = device.clips[0].items
    assert items.shape == (2, 8)
    assert items[:, 2].tolist() == [2, 1]
    assert (items[1, 5:] == -1).all()
    task = make_task("choice")
    assert isinstance(task, MultipleChoice)
    model = task.build(4, 4, 0, ())
    outputs = task.outputs(model, bank, task.asked(device, ()))
    assert torch.isinf(outputs[1, 2:]).all()
    assert torch.isfinite(outputs[0]).all()
    loss = task.base_loss(model, bank, device.clips, np.random.default_rng(0), 8)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_more_sentences_than_frames_are_refused_before_training() -> None:
    made = Clip("k0", Path("here"), 3, frames=tuple("abcdefghijkl"), frame_captions=tuple("abcdefghijkl"))
    check_sentences([made], 12)
    with pytest.raises(
        CollectionError, match="clip 'k0': 12 sentences in frame_captions, one per picture, but --frames is 8"
    ):
        check_sentences([made], 8)


def test_clip_data_without_items_has_no_right_answers() -> None:
    made = ClipData("c", 0, np.empty(0), np.empty((0, 3)), np.empty(0))
    assert made.right.shape == (0, 1)
