"""How the gate learns what to expect, and how much is enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.training.gates import CAUTION, WORTH, Outcomes, calibrate, fit_gate, need_evidence, promise
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.serving import OnnxBackend


def made_up(count: int, seed: int, noise: float = 1.0) -> tuple[Outcomes, np.ndarray]:
    """Outcomes whose gains are 3 times the first number and chance, and the gains without the chance."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 256)).astype(np.float32)
    truth = 3 * hidden[:, 0]
    return Outcomes(hidden, truth + rng.normal(size=count) * noise, np.full(count, 50.0)), truth


def test_gains_are_expected_as_they_were_learned() -> None:
    adaptor = untrained_model("codes").adaptor
    fit_gate(adaptor, made_up(800, seed=0)[0])
    unseen, truth = made_up(200, seed=1)
    expected = adaptor.gate.gain(torch.from_numpy(unseen.hidden)).numpy()
    assert np.corrcoef(expected, truth)[0, 1] > 0.95


@pytest.mark.parametrize(("gain", "passes"), [(3.0, True), (0.0, False), (-3.0, False)])
def test_without_evidence_of_a_gain_no_update_passes(gain: float, passes: bool) -> None:
    adaptor = untrained_model("codes").adaptor  # whose gate lets all pass
    known = made_up(8, seed=0)[0]
    noise = np.array([-1.0, 1, -2, 2, -1, 1, -2, 2])
    need_evidence(adaptor, known._replace(gains=gain + noise))
    accepted = adaptor.gate(torch.from_numpy(known.hidden)).numpy()
    assert accepted.all() if passes else not accepted.any()


def test_devices_that_would_not_gain_are_refused_though_training_promised_it() -> None:
    adaptor = untrained_model("codes").adaptor
    learned = made_up(800, seed=0)[0]
    fit_gate(adaptor, learned._replace(gains=2 * learned.gains + 5))
    calibrate(adaptor, made_up(80, seed=1)[0])
    unseen, truth = made_up(400, seed=2)
    accepted = adaptor.gate(torch.from_numpy(unseen.hidden)).numpy()
    needed = WORTH + CAUTION  # gains are known to within 1
    assert truth[accepted].sum() > 0.9 * truth[truth > needed].sum()
    assert needed - 2 < truth[accepted].min() < truth[~accepted].max() < needed + 2


def test_the_less_is_foretold_the_more_has_to_be_expected() -> None:
    accepted = []
    for noise in (0.5, 2.0, 5.0):
        adaptor = untrained_model("codes").adaptor
        fit_gate(adaptor, made_up(800, seed=0)[0])
        calibrate(adaptor, made_up(200, seed=1, noise=noise)[0])
        accepted.append(adaptor.gate(torch.from_numpy(made_up(400, seed=2)[0].hidden)).sum().item())
    assert accepted[0] > accepted[1] > accepted[2]


@pytest.mark.parametrize("gain", [-3.0, 0.5, 3.0])
def test_where_nothing_is_foretold_the_mean_decides(gain: float) -> None:
    adaptor = untrained_model("codes").adaptor
    known = made_up(200, seed=0)[0]
    fit_gate(adaptor, known)
    calibrate(adaptor, known._replace(gains=gain - 0.01 * known.gains))  # the more expected, the less gained
    accepted = adaptor.gate(torch.from_numpy(known.hidden))
    assert (accepted == (gain > WORTH)).all()


def test_what_an_adaptor_costs_kinds_that_a_gate_would_refuse_does_not_count() -> None:
    gains, refused = np.array([6.0, 2.0, -3.0, 1.0]), np.array([20.0, 30.0, 60.0, 70.0])
    known = Outcomes(np.zeros((4, 1), np.float32), gains, refused)
    assert promise(known, ["words", "words", "none", "none"]) == 45 + (4 + 4) / 4
    assert promise(known, ["words", "none", "words", "none"]) == 45 + (1.5 * 4) / 4


@pytest.mark.parametrize("form", ["full", "codes"])
def test_the_service_gives_refused_devices_the_base_model(form: str) -> None:
    model = untrained_model(form)
    request = made_up_request(model, "d")
    (made,) = OnnxBackend(model).generate([request])
    model.adaptor.gate.threshold.fill_(torch.inf)
    (refused,) = OnnxBackend(model).generate([request])
    base = model.adaptor.adapted.adapter.base_values()
    assert any((made[name] != base[name].numpy()).any() for name in made)
    for name, values in refused.items():
        np.testing.assert_array_equal(values, base[name].numpy())


def test_an_adaptor_of_before_there_were_gates_lets_all_pass(tmp_path: Path) -> None:
    untrained_model("codes").save(tmp_path)
    for path in tmp_path.glob("adaptor-*.safetensors"):
        old = {name: value for name, value in load_file(path).items() if not name.startswith("gate.")}
        save_file(old, path)
    assert TrainedModel.load(tmp_path).adaptor.gate.threshold == -torch.inf
