"""Shares of a gain, and requests along a stream, where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.stream import GRID, Stream, Streams, judge, remembered, requests
from paramcast.bench.ratios import share_interval
from paramcast.bench.untrained import FRAMES, IMAGE_FEATURES, TEXT_FEATURES, untrained_model
from paramcast.device.policy import Always, Every, Never
from paramcast.device.support import Seen
from paramcast.video.shifts.fleet import Device
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank


def test_a_share_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(4, 1, 200)
    found = share_interval(0.9 * whole + rng.normal(0, 0.2, 200), whole)
    assert found is not None
    assert found.low < 0.9 < found.high
    assert found.high - found.low < 0.05
    assert found.mean == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("whole", [np.zeros(5), np.array([-1.0, 1.0, 0.5]), -np.ones(3)])
def test_of_nothing_there_is_no_share(whole: np.ndarray) -> None:
    assert share_interval(np.ones(len(whole)), whole) is None


def test_requests_along_a_stream() -> None:
    rng = np.random.default_rng(0)
    offsets = np.repeat([0.0, 2.0], 60)
    seen = tuple(Seen((rng.normal(size=32) + move).astype("f4")) for move in offsets)
    stream = Stream((), (), seen)
    assert requests(stream, Never()) == []
    assert requests(stream, Always(8)) == [(n, min(n, 8)) for n in range(1, 121)]
    assert requests(stream, Every(50)) == [(50, 16), (100, 16)]
    for make in GRID.values():
        asked = requests(stream, make())
        after = [(at, count) for at, count in asked if at > 60]
        assert after[0][0] <= 64
        assert all(at - count >= 60 for at, count in after)  # no clip of the domain before
        assert len(asked) <= 24  # with the lowest threshold there is a false alarm


def test_every_clip_is_judged_under_the_package_that_was_there_before_it() -> None:
    rng = np.random.default_rng(0)
    model = untrained_model("codes", "qa")
    clips, questions = 30, 3
    bank = Bank(
        torch.from_numpy(rng.normal(size=(clips, FRAMES, IMAGE_FEATURES)).astype("f4")),
        torch.ones(clips, FRAMES, dtype=torch.bool),
        {},
        torch.from_numpy(rng.normal(size=(questions * clips, TEXT_FEATURES)).astype("f4")),
        {},
    )
    seen = []
    for row in range(clips):
        texts = np.arange(questions * row, questions * (row + 1))
        items = np.stack([np.full(questions, row), texts, rng.integers(0, 1000, questions)], axis=1)
        seen.append(ClipData(f"clip-{row}", row, texts, items, texts[:0]))
    device = DeviceData(
        Device("d", "test", (), (), (), None, {}, "made"), tuple(seen), 0, np.zeros(1, np.float32)
    )
    table = model.table(bank)
    with torch.no_grad():  # half of the questions have what the base, or a package, answers for their truth
        for row, values in (
            (0, None),
            (14, model.adaptor.generate(table.context([seen[6:14]], [device.truth]))),
        ):
            with model.adaptor.adapted.use(values):
                given = model.task.outputs(
                    model.adaptor.adapted.replica, bank, model.task.asked(device, [])
                ).argmax(-1)
            for clip in seen[row::2]:
                clip.items[:, 2] = given[questions * clip.row : questions * (clip.row + 1)]
    stream = Stream(tuple(seen), (device,) * clips, tuple(remembered(table, clip) for clip in seen))
    group = Streams(model, bank, table, (stream,))
    policies = {"never": Never, "always": lambda: Always(8), "every": lambda: Every(14)}
    found = judge(group, policies)
    for name, make in policies.items():
        plan = requests(stream, make())
        starts, ends = [0, *(at for at, _ in plan)], [*(at for at, _ in plan), clips]
        scores = []
        for asked, start, end in zip([None, *plan], starts, ends, strict=True):
            if start == end:
                continue
            values = None
            if asked:
                support = seen[asked[0] - asked[1] : asked[0]]
                values = model.adaptor.generate(table.context([support], [device.truth]))
            part = replace(device, clips=tuple(seen[start:end]))
            percent = model.task.mean_score(model.adaptor.adapted, values, bank, part, [])
            scores.append(percent * (end - start))
        assert found[name].accuracy[0] == pytest.approx(sum(scores) / clips)
        assert 5 < found[name].accuracy[0] < 95
        assert found[name].share[0] == len(plan) / clips
