"""What an adaptor's lessons show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from paramcast.video.training.bank import Bank, OffsetBank
from paramcast.video.training.fleets import kind_of
from paramcast.video.training.material import Material
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.outcomes import gate_lessons
from paramcast.video.training.plan import Plan
from paramcast.video.training.stages import lessons_of
from paramcast.video.world import make_world

SPOKEN, SPOILT = "vocabulary", ("camera", "category+camera+vocabulary")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    world = make_world(tmp_path_factory.mktemp("episodes") / "world", clips=80)
    return Material(Plan(world, TrainingOptions("qa", frames=1, devices=20)))


def test_an_offset_moves_all_that_a_device_sees_and_hears() -> None:
    torch.manual_seed(0)
    plain = Bank(torch.randn(5, 3, 4), torch.ones(5, 3, dtype=torch.bool), {}, torch.randn(6, 2), {})
    frame_offsets, text_offsets = torch.randn(2, 4), torch.randn(2, 2)
    moved = OffsetBank(plain.frames, plain.mask, {}, plain.texts, {}, frame_offsets, text_offsets)
    rows = np.array([[0, 1, 2], [3, 4, 0]])
    frames, mask = plain.some_frames(rows, np.random.default_rng(0))
    found, found_mask = moved.some_frames(rows, np.random.default_rng(0))
    torch.testing.assert_close(found - frames, frame_offsets[:, None, None].expand_as(frames))
    assert (mask == found_mask).all()
    texts = plain.some_texts(rows)
    torch.testing.assert_close(moved.some_texts(rows) - texts, text_offsets[:, None].expand_as(texts))


def test_words_cost_little_so_many_devices_have_their_own(material: Material) -> None:
    for fold in material.devices:
        kinds = Counter(kind_of(device.device) for device in fold)
        assert kinds.keys() == {SPOKEN, *SPOILT}
        assert kinds[SPOKEN] >= 2 * max(kinds[kind] for kind in SPOILT)


def test_lessons_and_base_models_see_each_kind_as_often(material: Material) -> None:
    lessons = lessons_of(material, material.new_model())[0]
    rng = np.random.default_rng(0)
    drawn = [lessons._device(rng) for _ in range(4000)]
    kinds = Counter(
        kind_of(device.device) for device in drawn if device.device.vocabulary or device.device.cameras
    )
    assert max(kinds.values()) - min(kinds.values()) < 6 * np.sqrt(4000 / 4)
    assert kinds.keys() == {SPOKEN, *SPOILT}
    device_of = {id(clip): d.device.id for fold in material.devices for d in fold for clip in d.clips}
    seen = {device_of[id(clip)] for clip in material.seen_by(1).shifted}
    assert len(set(Counter(name.split("-")[0] for name in seen).values())) == 1


def test_outcomes_name_their_devices(material: Material) -> None:
    """The gate's penalty is chosen by leaving whole devices out, with all support sizes of theirs."""
    model = material.new_model()
    lessons = lessons_of(material, model)
    names = [set[str]() for _ in lessons[:2]]
    for found, lesson in zip(names, lessons, strict=False):
        for outcomes in gate_lessons(model.adaptor, lesson, (lesson.bank, lesson.table)):
            assert len(outcomes.devices) == len(outcomes.gains)
            found.update(outcomes.devices)
    assert not names[0] & names[1]
    assert len(names[0]) >= len(lessons[0].devices)
