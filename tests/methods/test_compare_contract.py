"""What every method of `paramcast compare` has to keep to, on every task that it serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fleets import SUPPORT, TASKS, tiny_model, tiny_samples
from torch import Tensor

from paramcast.bench.compare import CompareOptions, compare
from paramcast.errors import InputError
from paramcast.methods.background import Background, Samples
from paramcast.methods.base import TRIALS, Method, Settings
from paramcast.methods.cloud import Cloud
from paramcast.methods.m3bat_row import M3bat
from paramcast.methods.registry import METHODS, chosen, make_method
from paramcast.methods.support import labeled_of, support_of
from paramcast.video.data.collection import Collection
from paramcast.video.tasks.base import Asked
from paramcast.video.training.arrays import ClipData, DeviceData

CASES = [(name, task) for name in METHODS for task in TASKS if task in make_method(name).tasks]


@pytest.fixture(scope="module")
def samples(backgrounds: dict[str, Background]) -> dict[str, Samples]:
    return {
        task: tiny_samples(background.model, 2, 3, background.collection)
        for task, background in backgrounds.items()
    }


class Case:
    """A prepared method, and a device to try it on."""

    def __init__(self, name: str, background: Background, samples: Samples) -> None:
        self.method: Method = make_method(name)
        self.method.prepare(background)
        self.task, self.samples, self.background = background.model.task, samples, background
        self.device = samples.devices[0]
        self._expected: Tensor | None = None

    @property
    def expected(self) -> Tensor:
        """Outputs with the settings, computed once: every test that adapts again compares with these."""
        if self._expected is None:
            self._expected = self.outputs(self.settings)
        return self._expected

    @property
    def settings(self) -> Settings:
        return self.method.grid(self.task.name)[-1]

    def outputs(self, settings: Settings, device: DeviceData | None = None, seed: int = 0) -> Tensor:
        device = self.device if device is None else device
        support = support_of(self.task, self.samples, device, SUPPORT, self.method.labels)
        predict = self.method.adapt(support, settings, seed)
        return predict(self.task.asked(device, self.samples.clips))

    def base(self) -> Tensor:
        asked = self.task.asked(self.device, self.samples.clips)
        with torch.no_grad():
            return self.task.outputs(self.background.frozen, self.samples.bank, asked)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(
    request: pytest.FixtureRequest, backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> Case:
    """Prepare a method once for all tests of it, which run one after the other: some methods train for it."""
    name, task = request.param
    return Case(name, backgrounds[task], samples[task])


def poisoned(device: DeviceData, clips: slice) -> DeviceData:
    """The device with other labels on some of its clips: answers, or the captions of other clips."""
    own = list(device.clips)
    chosen_clips = own[clips]
    if chosen_clips[0].items[0, 2] >= 0:
        changed = [with_items(clip, 2, (clip.items[:, 2] + 1) % 3) for clip in chosen_clips]
    else:
        texts = np.roll([clip.items[0, 1] for clip in chosen_clips], 1)
        changed = [with_items(clip, 1, text) for clip, text in zip(chosen_clips, texts, strict=True)]
    own[clips] = changed
    return replace(device, clips=tuple(own))


def with_items(clip: ClipData, column: int, values: np.ndarray) -> ClipData:
    items = clip.items.copy()
    items[:, column] = values
    return replace(clip, items=items)


def test_settings_are_few_and_all_run(case: Case) -> None:
    grid = case.method.grid(case.task.name)
    assert 1 <= len(grid) <= TRIALS
    assert len({tuple(settings.items()) for settings in grid}) == len(grid)
    base, changed = case.base(), False
    for settings in grid:
        found = case.expected if settings == case.settings else case.outputs(settings)
        assert found.shape == base.shape
        assert found.isfinite().all()
        changed |= not torch.allclose(found, base, atol=1e-5)
    assert changed == (case.method.identity != {}), "a method that changes nothing is no method"


def test_nothing_done_is_the_base_model(case: Case) -> None:
    if case.method.identity is None:
        assert case.method.on_cloud or case.method.note
        return
    torch.testing.assert_close(case.outputs(case.method.identity), case.base(), atol=1e-5, rtol=1e-4)


def test_the_base_model_stays_as_it_is(case: Case) -> None:
    before, frozen = case.background.model.sha256(), case.base()
    case.outputs(case.settings)
    assert case.background.model.sha256() == before
    assert torch.equal(case.base(), frozen)


def test_the_seed_decides(case: Case) -> None:
    assert torch.equal(case.outputs(case.settings), case.expected)


def test_labels_of_the_query_clips_are_not_seen(case: Case) -> None:
    expected = case.expected
    if case.task.has_answers:
        other = poisoned(case.device, slice(SUPPORT, None))
        assert torch.equal(case.outputs(case.settings, other), expected)
        return
    # In retrieval the order of candidates is the label.
    support = support_of(case.task, case.samples, case.device, SUPPORT, case.method.labels)
    predict = case.method.adapt(support, case.settings, 0)
    asked = case.task.asked(case.device, case.samples.clips)
    order = np.random.default_rng(0).permutation(len(asked.shown))
    found = predict(Asked(asked.shown[order], asked.texts, asked.options))
    torch.testing.assert_close(found, expected[:, order], atol=1e-5, rtol=1e-4)


def test_labels_of_the_support_clips_are_seen_only_by_methods_that_pay_for_them(case: Case) -> None:
    expected = case.expected
    found = case.outputs(case.settings, poisoned(case.device, slice(SUPPORT)))
    assert torch.equal(found, expected) == (case.method.labels == 0)


def test_the_device_matters_to_whatever_adapts(case: Case) -> None:
    support = support_of(case.task, case.samples, case.samples.devices[1], SUPPORT, case.method.labels)
    asked = case.task.asked(case.device, case.samples.clips)
    found = case.method.adapt(support, case.settings, 0)(asked)
    same_for_all = type(case.method).__name__ in ("Static", "FedAvg", "DannBase", "Cloud")
    assert torch.equal(found, case.expected) == same_for_all


def test_what_an_adaptation_sends(case: Case) -> None:
    support = support_of(case.task, case.samples, case.device, SUPPORT, case.method.labels)
    traffic = case.method.traffic(support, case.settings)
    assert min(traffic.up, traffic.down, traffic.query_up, traffic.query_down) >= 0
    assert bool(traffic.up or traffic.query_up) == bool(traffic.leaves)
    work, asks = case.method.device_work(support, case.settings), isinstance(case.method, Cloud)
    works = type(case.method).device_work is not Method.device_work
    assert works == (work.peak_bytes > 0)
    assert (work.macs > 0) == (works and not isinstance(case.method, M3bat))  # it only holds what it is sent
    query_ms = case.method.query_ms(support, case.settings)
    assert (query_ms is not None and query_ms > 0) == asks == (traffic.query_up > 0)


@pytest.mark.parametrize("task", TASKS)
def test_unlabeled_support_tells_no_label(task: str, samples: dict[str, Samples]) -> None:
    made, device = tiny_model(task).task, samples[task].devices[0]
    support = support_of(made, samples[task], device, SUPPORT, 0)
    assert support.labeled is None
    assert all(not len(clip.items) and not len(clip.hints) for clip in support.clips)
    if task == "retrieval":
        right = {clip.row: clip.items[0, 1] for clip in device.clips}
        paired = [
            right[row] == text for row, text in zip(support.asked.shown, support.asked.texts, strict=True)
        ]
        assert not all(paired)


def test_labels_are_taken_from_the_clips_in_turn(samples: dict[str, Samples]) -> None:
    qa, clips = tiny_model("qa").task, samples["qa"].devices[0].clips[:4]
    labeled = labeled_of(qa, clips, 6)
    assert labeled.asked.shown.tolist() == [clip.row for clip in (*clips, *clips[:2])]
    assert labeled.answers.tolist() == [
        *(clip.items[0, 2] for clip in clips),
        *(clip.items[1, 2] for clip in clips[:2]),
    ]


def test_further_captions_are_labels_too(samples: dict[str, Samples]) -> None:
    task, clips = tiny_model("retrieval").task, samples["retrieval"].devices[0].clips[:4]
    labeled = labeled_of(task, clips, 6)
    assert labeled.asked.shown[labeled.answers].tolist() == [clip.row for clip in (*clips, *clips[:2])]
    assert labeled.asked.texts[4:].tolist() == [clip.hints[0] for clip in clips[:2]]
    assert len(labeled_of(task, clips, 1000).answers) == 4 * 3


def test_captions_of_frames_are_of_their_frames_alone(samples: dict[str, Samples]) -> None:
    task, clip = tiny_model("retrieval").task, samples["retrieval"].devices[0].clips[0]
    told = replace(clip, items=np.array([[clip.row + 1, 0, -1], [clip.row + 2, 1, -1]]))
    labeled = labeled_of(task, [told], 10)
    assert labeled.asked.shown[labeled.answers].tolist() == [clip.row + 1, clip.row + 2]


def test_as_many_labels_as_candidates(
    backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    background, data = backgrounds["retrieval"], samples["retrieval"]
    device = replace(data.devices[0], support=8)
    support = support_of(background.model.task, data, device, 8, labels=8)
    assert support.labeled is not None
    assert len(support.labeled.asked.shown) == len(support.labeled.answers) == 8
    method = make_method("fta_16")  # holds some labels out; all candidates must stay
    method.prepare(background)
    predict = method.adapt(support, method.grid("retrieval")[0], 0)
    assert predict(background.model.task.asked(device, data.clips)).isfinite().all()


def test_names_are_checked() -> None:
    assert chosen("tent, fta_4", "qa") == ["base", "tent", "fta_4"]
    assert chosen("all", "qa") == [name for name, task in CASES if task == "qa"]
    with pytest.raises(InputError, match="no method is called 'tents'"):
        chosen("tents", "qa")
    with pytest.raises(InputError, match="'csls' does not serve task 'qa', only retrieval"):
        chosen("csls", "qa")


def test_the_collection_of_the_training_is_asked_for(tmp_path: Path) -> None:
    model = tiny_model("qa")
    model.config = replace(model.config, clips={"train": ("gone",), "validation": (), "test": ()})
    other = Collection("other", tmp_path, (), {})
    with pytest.raises(InputError, match=r"trained on 'none'.* --trained-on"):
        compare(model, other, other, ["base"], CompareOptions("none", 2, 1, 1, 0), tmp_path)
