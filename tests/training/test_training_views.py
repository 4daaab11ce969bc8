"""What is sent of clips, and how devices' words change what is asked and what is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from paramcast.bench.untrained import untrained_model
from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest
from paramcast.training.uplink import Uplink
from paramcast.video.data.collection import Clip, Collection, Question
from paramcast.video.data.options import Distractors
from paramcast.video.shifts.fleet import Device
from paramcast.video.shifts.vocabulary import Vocabulary
from paramcast.video.tasks import make_task
from paramcast.video.training.arrays import ClipData
from paramcast.video.training.bank import Bank
from paramcast.video.training.evaluate import draw_fleet
from paramcast.video.training.views import UplinkTable, View, describe_domain

FRAMES, IMAGE, TEXT = 4, 5, 3


def table(anchors: int | None) -> tuple[Bank, UplinkTable]:
    """Three clips, the last of which has two frames alone, and two texts; uplinks are the features."""
    torch.manual_seed(0)
    frames, mask = torch.randn(3, FRAMES, IMAGE), torch.ones(3, FRAMES, dtype=torch.bool)
    frames[2, 2:], mask[2, 2:] = 0, False
    bank = Bank(frames, mask, {}, torch.randn(2, TEXT), {})
    image, text = (Uplink(np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32)) for dim in (IMAGE, TEXT))
    return bank, UplinkTable.build(bank, image, text, sent=anchors)


def clip(row: int, queries: list[int]) -> ClipData:
    none = np.zeros((0, 3), np.int64)
    return ClipData(f"clip-{row}", row, np.array(queries, np.int64), none, none[:, 0])


@pytest.mark.parametrize(
    ("anchors", "places"), [(1, [[2], [1]]), (2, [[1, 3], [0, 1]]), (4, [[0, 1, 2, 3], [0, 0, 1, 1]])]
)
def test_anchors_are_spread_over_the_clip(anchors: int, places: list[list[int]]) -> None:
    bank, found = table(anchors)
    for row, wanted in zip((0, 2), places, strict=True):
        np.testing.assert_allclose(found.anchors[row], bank.frames[row, wanted].numpy(), atol=0.02)


def test_instead_of_frames_the_mean_of_the_clip_can_be_sent() -> None:
    bank, found = table(None)
    np.testing.assert_allclose(found.anchors[2, 0], bank.frames[2, :2].mean(0), atol=0.02)


@pytest.mark.parametrize("anchors", [1, 2, None])
def test_the_cloud_is_told_what_a_context_is_made_of(anchors: int | None) -> None:
    _, found = table(anchors)
    clips = [clip(2, [0, 1]), clip(0, []), clip(1, [1])]
    inputs = found.context([clips, clips[:1]], [np.zeros(1, np.float32)] * 2, training=True)
    sent = anchors or 1
    assert inputs.anchors.shape == (2, 3 * sent, IMAGE)
    assert inputs.anchor_mask.sum(1).tolist() == [3 * sent, sent]
    assert inputs.clips is not None
    np.testing.assert_array_equal(inputs.clips[0], found.clips[[2] * sent + [0] * sent + [1] * sent])
    request = AdaptRequest.decode(found.request("cam-1", "a" * 64, clips).encode())
    np.testing.assert_allclose(request.anchors, inputs.anchors[0], atol=0.02)
    np.testing.assert_allclose(request.queries, inputs.queries[0][inputs.query_mask[0]], atol=0.02)
    assert request.clip_of_query.tolist() == [0, 2 * sent]


def test_habits_change_what_is_right_and_nothing_that_is_seen() -> None:
    asked = Clip("a", Path(), 1, ("a.png",), None, qa=(Question("who drives a car?", "man"),))
    plain = Device("d", "test", ("a",), (), (), None, {}, "made")
    words = Vocabulary(0, 1.0)
    task = make_task("qa")
    alone, habits, all_words = (
        View(asked, device, task, Distractors([asked]))
        for device in (plain, replace(plain, habits=words), replace(plain, vocabulary=words))
    )
    assert habits.texts() == alone.texts() == ["who drives a car?"] != all_words.texts()
    assert alone.rights == [["man"]]
    assert habits.rights == all_words.rights == [[words.answer("man")]]
    told = [describe_domain(device, []) for device in (plain, replace(plain, habits=words))]
    assert told[0].sum() == 0 < told[1].sum() == words.describe().sum()


def test_there_are_no_habits_without_answers() -> None:
    empty = Collection(Path(), "made", (), {})
    with pytest.raises(InputError, match="habits changes answers"):
        draw_fleet(untrained_model("codes", "retrieval"), empty, "test", ["a"], "habits", 1, 1, 0)
