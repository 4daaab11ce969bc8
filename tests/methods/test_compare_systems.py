"""The three other systems as methods of `paramcast compare`: what they do to a base model; odd input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from fleets import ANSWERS, SUPPORT, TASKS, tiny_samples
from torch import Tensor

from paramcast.errors import InputError
from paramcast.methods import cmda_ot_row, mm_adapter_row
from paramcast.methods.background import Background, Samples
from paramcast.methods.base import Labeled, Method, Settings, Support
from paramcast.methods.m3bat_row import Branches, branch_weights
from paramcast.methods.registry import make_method
from paramcast.methods.support import support_of
from paramcast.video.training.bank import Bank

COMMON = 3  # answers that tests let count as common


@pytest.fixture(scope="module")
def samples(backgrounds: dict[str, Background]) -> dict[str, Samples]:
    return {
        task: tiny_samples(background.model, 1, 3, background.collection)
        for task, background in backgrounds.items()
    }


class Trial:
    """A method on one device."""

    def __init__(self, name: str, background: Background, samples: Samples, clips: int = SUPPORT) -> None:
        self.method: Method = make_method(name)
        self.method.prepare(background)
        self.background, self.samples, task = background, samples, background.model.task
        self.support = support_of(task, samples, samples.devices[0], clips, self.method.labels)
        self.asked = task.asked(samples.devices[0], samples.clips)

    def outputs(self, settings: Settings, support: Support | None = None) -> Tensor:
        return self.method.adapt(support or self.support, settings, 0)(self.asked)

    def base(self) -> Tensor:
        with torch.no_grad():
            return self.background.model.task.outputs(self.background.frozen, self.samples.bank, self.asked)


@pytest.mark.parametrize(
    ("name", "task"), [("m3bat", task) for task in TASKS] + [("cmda_ot", "qa"), ("mm_adapter", "qa")]
)
def test_one_clip_is_enough(
    name: str, task: str, backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    trial = Trial(name, backgrounds[task], samples[task], clips=1)
    settings = trial.method.grid(task)[-1]
    assert trial.outputs(settings).isfinite().all()
    assert trial.method.traffic(trial.support, settings).up >= 0


@pytest.mark.parametrize("task", TASKS)
def test_the_network_of_m3bat_is_the_base_model(task: str, backgrounds: dict[str, Background]) -> None:
    background = backgrounds[task]
    plain = background.training.bank
    still = replace(plain, frames=plain.frames[:, :1].expand_as(plain.frames))  # whichever frames are drawn
    items = np.concatenate([clip.items for clip in background.training.clips])[:5]
    network = Branches(background.model.task, background.module(), (still, still), np.random.default_rng(0))
    with torch.no_grad():
        outputs = network.eval().predict(network.encode(Branches.rows(1, items)))
        asked = background.training.asked
        asked = replace(asked, shown=items[:, 0], texts=items[:, 1], options=items[:, 3:])
        expected = background.model.task.outputs(background.frozen, still, asked)
    factor = 1.0 if background.model.task.has_answers else float(background.frozen.temperature)  # type: ignore[arg-type]
    torch.testing.assert_close(outputs, factor * expected, atol=1e-4, rtol=1e-4)


def test_the_shared_representation_is_alone_until_branches_open(backgrounds: dict[str, Background]) -> None:
    background = backgrounds["qa"]
    banks = background.training.bank, background.training.bank
    network = Branches(background.model.task, background.module(), banks, np.random.default_rng(0))
    rows = Branches.rows(0, background.training.clips[0].items)
    for opened, count in ((False, 1), (True, 3)):
        encoded = network.encode(rows, opened)
        domains = network.domains(encoded)
        assert len(encoded) == len(domains) == count
        assert all(logits.shape == (len(rows),) for logits in domains)


def test_a_branch_weighs_by_its_shift() -> None:
    rng = np.random.default_rng(0)
    source = {"image": rng.normal(size=(400, 6)), "text": rng.normal(size=(400, 3))}
    target = {"image": rng.normal(2.0, 1.0, size=(400, 6)), "text": rng.normal(0.5, 1.0, size=(400, 3))}
    shared, image, text = branch_weights(source, target, shared=True)
    assert np.mean([shared, image, text]) == pytest.approx(1.0)
    assert image / text == pytest.approx(4.0, rel=0.2)  # d of 2.0 against 0.5
    assert shared / text == pytest.approx((6 * 2.0 + 3 * 0.5) / 9 / 0.5, rel=0.2)
    assert branch_weights(source, target, shared=False) == pytest.approx((1.6, 0.4), rel=0.1)
    assert branch_weights(source, source, shared=True) == (0.0, 0.0, 0.0)  # nothing shifts, nothing to align


def test_cmda_ot_moves_probability_among_common_answers_only(
    monkeypatch: pytest.MonkeyPatch, backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    monkeypatch.setattr(cmda_ot_row, "ANSWERS", COMMON)
    trial = Trial("cmda_ot", backgrounds["qa"], samples["qa"])
    found = trial.outputs({"alignment": "none", "weight": 1.0}).softmax(-1)
    before = trial.base().softmax(-1)
    torch.testing.assert_close(found[:, COMMON:], before[:, COMMON:], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[:, :COMMON], before[:, :COMMON], atol=1e-3)


def test_what_cmda_ot_sends_is_at_least_its_models(
    backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    trial = Trial("cmda_ot", backgrounds["qa"], samples["qa"])
    settings = trial.method.grid("qa")[0]
    sent = trial.method.traffic(trial.support, settings)
    clients, rounds, hidden = 3, 3, 64  # of the tiny fleet
    width = min(cmda_ot_row.DIRECTIONS, len(backgrounds["qa"].reference.asked.texts))
    weights = 4 * hidden * width
    assert clients * rounds * weights < sent.up < 3 * clients * rounds * weights
    assert (clients * rounds + 1) * weights < sent.down < 3 * clients * rounds * weights


def test_cmda_ot_needs_two_classes(
    monkeypatch: pytest.MonkeyPatch, backgrounds: dict[str, Background]
) -> None:
    monkeypatch.setattr(cmda_ot_row, "ANSWERS", 1)
    with pytest.raises(
        InputError, match=r"two of the 1 commonest answers, here they have \d: leave out cmda_ot"
    ):
        make_method("cmda_ot").prepare(backgrounds["qa"])


def test_the_adapter_moves_common_answers_only(
    monkeypatch: pytest.MonkeyPatch, backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    monkeypatch.setattr(mm_adapter_row, "ANSWERS", COMMON)
    trial = Trial("mm_adapter", backgrounds["qa"], samples["qa"])
    found, before = trial.outputs({"mask": "bias", "blend": 0.2}), trial.base()
    torch.testing.assert_close(found[:, COMMON:], before[:, COMMON:], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[:, :COMMON], before[:, :COMMON], atol=1e-3)


def rare(labeled: Labeled) -> Labeled:
    return replace(labeled, answers=torch.full_like(labeled.answers, ANSWERS - 1))


def unknown(labeled: Labeled) -> Labeled:
    return replace(labeled, answers=torch.full_like(labeled.answers, -1))


@pytest.mark.parametrize("change", [rare, unknown])
def test_labels_that_tell_of_no_class_adapt_nothing(
    change: Callable[[Labeled], Labeled],
    monkeypatch: pytest.MonkeyPatch,
    backgrounds: dict[str, Background],
    samples: dict[str, Samples],
) -> None:
    monkeypatch.setattr(mm_adapter_row, "ANSWERS", COMMON)
    trial = Trial("mm_adapter", backgrounds["qa"], samples["qa"])
    assert trial.support.labeled is not None
    support = replace(trial.support, labeled=change(trial.support.labeled))
    assert torch.equal(trial.outputs({"mask": "bias", "blend": 0.2}, support), trial.base())


def test_a_single_clip_tells_the_adapter_nothing(
    backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    trial = Trial("mm_adapter", backgrounds["retrieval"], samples["retrieval"], clips=1)
    assert torch.equal(trial.outputs({"mask": "bias", "blend": 0.2}), trial.base())


def test_the_adapter_asks_for_labels(backgrounds: dict[str, Background], samples: dict[str, Samples]) -> None:
    trial = Trial("mm_adapter", backgrounds["retrieval"], samples["retrieval"])
    with pytest.raises(ValueError, match="needs labels"):
        trial.outputs(trial.method.grid("retrieval")[0], replace(trial.support, labeled=None))


def test_a_bank_that_is_not_finite_is_refused(
    backgrounds: dict[str, Background], samples: dict[str, Samples]
) -> None:
    spoilt: Bank = replace(samples["qa"].bank, texts=torch.full_like(samples["qa"].bank.texts, np.nan))
    for name in ("m3bat", "cmda_ot", "mm_adapter"):
        trial = Trial(name, backgrounds["qa"], samples["qa"])
        support = replace(trial.support, samples=replace(samples["qa"], bank=spoilt))
        with pytest.raises(Exception, match=r"NaN|nan|infinity"):
            trial.method.adapt(support, trial.method.grid("qa")[0], 0)
