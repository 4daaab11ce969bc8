"""Updates that start from what a device can do for itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from corners import corners
from torch import Tensor, nn

import paramcast as pc
from paramcast.adapters import AdaptedModule, build_adapter
from paramcast.errors import InputError
from paramcast.training.alignment import LearnedAlignment
from paramcast.training.baselines import (
    FreeBaseline,
    MeanRemoval,
    PriorCorrection,
    ReestimatedStatistics,
)
from paramcast.training.bases import Supervised, copied
from paramcast.training.free import _cautious, choose_free
from paramcast.training.scores import SCORES, cross_entropy
from paramcast.training.start import PREFIX, Start, Started, starting


class Normed(nn.Module):
    """Tells the corner, behind a batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.first = nn.Linear(2, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two columns (N, 1) -> logits (N, 4)."""
        out: Tensor = self.head(self.first(self.norm(torch.cat([x, y], -1))).relu())
        return out


def net() -> Normed:
    """A module with random weights and statistics."""
    torch.manual_seed(0)
    made = Normed()
    made.norm.running_mean.fill_(0.3)
    made.norm.running_var.fill_(2.0)
    return made.eval()


def method(name: str, module: nn.Module) -> FreeBaseline:
    """A baseline that has learned what it needs."""
    if name == "statistics":
        return ReestimatedStatistics()
    if name == "mean":
        mean = MeanRemoval()
        mean.learn(module, [device.inputs for device in corners(3, 1)])
        return mean
    prior = PriorCorrection()
    prior.prior = torch.tensor([0.4, 0.3, 0.2, 0.1])
    return prior


@pytest.mark.parametrize("name", ["statistics", "mean", "prior"])
def test_a_start_gives_what_its_baseline_gives_and_an_update_comes_on_top(name: str) -> None:
    module, (device,) = net(), corners(1, 2)
    free = method(name, module)
    start = Start.of(module, free, 0.5)
    assert start is not None
    support, query = (tuple(x[a:b] for x in device.inputs) for a, b in ((0, 12), (12, 40)))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    values = {key: value[0] for key, value in starting(start, module, [support]).items()}
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert set(values) == {PREFIX + each for each in start.names(module)}
    plain = build_adapter(pc.Basis(rank=4), module, ["head"])
    adapted = AdaptedModule(module, Started(plain, module, start.names(module)))
    with torch.no_grad():
        wanted = free.outputs(module, support, query, 0.5)
        found = adapted(query, plain.base_values() | values)
        torch.testing.assert_close(found, wanted)
        assert not torch.allclose(wanted, module(*query))
        torch.testing.assert_close(adapted(query, adapted.adapter.base_values()), module(*query))
        both = adapted(query, plain.probe_values() | values)
        alone = adapted(
            query,
            plain.probe_values() | {k: v for k, v in adapted.adapter.base_values().items() if k in values},
        )
    if name != "statistics":  # the same is added to all logits, on top of the update
        torch.testing.assert_close(both - alone, wanted - module(*query), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both, wanted)


def test_a_module_without_norms_or_linear_layers_has_no_start() -> None:
    assert Start.of(nn.Conv1d(1, 1, 1), PriorCorrection(), 1.0) is None


def test_strengths_are_learned_for_each_layer() -> None:
    """The first layer's mean is the device's own offset; that of the second is what is asked for."""
    rng = np.random.default_rng(0)
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)).eval()

    def draw(_: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        level = rng.normal()  # of the labels: to align the last layer would lose it
        labels = torch.tensor(rng.normal(size=(64, 2)) + level, dtype=torch.float32)
        return labels[:32], labels[32:], labels[32:]

    learned = LearnedAlignment.learn(module, draw, lambda made, labels: (made - labels).square().mean(), 0)
    assert learned.fits(module, None)
    assert max(strength for pair in learned.strengths.values() for strength in pair) < 0.35

    def offset(_: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.tensor(rng.normal(size=(64, 2)), dtype=torch.float32)
        moved = labels + 2 * float(rng.normal())
        return moved[:32], moved[32:], labels[32:]

    learned = LearnedAlignment.learn(module, offset, lambda made, labels: (made - labels).square().mean(), 0)
    means = [pair[0] for pair in learned.strengths.values()]
    assert 1 - (1 - means[0]) * (1 - means[1]) > 0.8
    before = {key: value.clone() for key, value in module.state_dict().items()}
    x = torch.tensor(rng.normal(size=(40, 2)) + 3, dtype=torch.float32)
    with torch.no_grad():
        assert learned.outputs(module, x, x).mean() < 0.7
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_free_baseline_has_to_help_training_devices_too() -> None:
    """The one that helps both validation devices most, which happen to have an offset, harms all others."""
    made = net()
    Supervised(cross_entropy, steps=150, rate=0.02)(made.train(), corners(20, 1, offset=0.0))
    model = pc.adaptable(made.eval(), ["first"], adapter=pc.Basis(rank=4), loss=cross_entropy)
    validation = corners(2, 3, offset=2.0)

    def chosen(devices: list[pc.DeviceData]) -> tuple[str, float]:
        free = choose_free(model, [(copied(made), devices)], validation, 16, SCORES["accuracy"])
        assert free
        return free["name"], free["strength"]

    assert chosen(corners(12, 2, offset=2.0)) == ("norm_statistics", 1.0)
    # Examples of one class come first, so that statistics of the support set say nothing of a device.
    one_class = [
        np.argsort(np.asarray(device.labels), kind="stable") for device in corners(12, 2, offset=0.0)
    ]
    sorted_ = [
        pc.DeviceData(each.id, tuple(x[rows] for x in each.inputs), each.labels[rows], group=each.group)
        for each, rows in zip(corners(12, 2, offset=0.0), one_class, strict=True)
    ]
    assert chosen(sorted_) != ("norm_statistics", 1.0)


def test_gains_are_counted_with_caution() -> None:
    assert _cautious(np.array([2.0, 4.0, np.nan])) == pytest.approx(3 - 1)
    assert _cautious(np.array([5.0])) == -math.inf


def test_the_free_baseline_stays_where_no_update_is_worth_it(tmp_path: Path) -> None:
    model = pc.adaptable(net(), ["first"], adapter=pc.Basis(rank=4), loss=cross_entropy)
    base = Supervised(cross_entropy, steps=40, rate=0.02)
    model.fit(corners(12, 1), corners(6, 2), 8, base=base, folds=2, start=True, support=16)
    free, start = model.fitted.summary["free"], model.fitted.summary["start"]
    assert free["strength"] > 0, "devices are moved by an offset: aligning them must help"
    model.hypernet.gate.threshold.fill_(math.inf)
    values = model.evaluate(corners(6, 3), support=16).results[0].values
    if start["name"] == "learned_alignment":
        assert values["own"].mean() > values["best_free"].mean() - 2
    else:
        np.testing.assert_allclose(values["own"], values["best_free"])
    np.testing.assert_allclose(values["own"], values["start"])
    assert values["own"].mean() > values["base"].mean()

    model.save(tmp_path / "model")
    again = pc.load(tmp_path / "model", net())
    (device,) = corners(1, 4)
    support = tuple(x[:16] for x in device.inputs)
    one, two = model.update(support), again.update(support)
    assert any(key.startswith(PREFIX) for key in one)
    assert all(np.allclose(one[key], two[key]) for key in one)
    with pytest.raises(InputError, match="cannot be exported yet"):
        model.export(tmp_path / "artifact")
