from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from paramcast.methods.m3bat import LabelsError, M3BATClassifier, M3BATRegressor, OptionError, mask_targets
from paramcast.methods.m3bat.makers import make_shifted
from paramcast.methods.m3bat.selection import Trial, choose, density_ratio, select, weighted_risk

QUICK = {"steps": 10, "hidden": 8, "batch_size": 16, "random_state": 0}
CANDIDATES = [{"strength": 0.1}, {"strength": 1.0}]


def test_density_ratios_are_high_where_the_target_is() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(400, 2)), rng.normal(size=(400, 2)) + np.array([2, 0])
    weights = density_ratio(source[:300], source[300:], target)
    assert weights.mean() == pytest.approx(1)
    assert np.corrcoef(weights, source[300:, 0])[0, 1] > 0.5


def test_the_weighted_risk_estimates_the_loss_of_the_target() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20000)
    weights = np.exp(x - 0.5)  # of N(1, 1) against N(0, 1)
    losses = (x + 3) ** 2
    assert weighted_risk(losses, weights) == pytest.approx(1 + 4**2, rel=0.03)
    assert weighted_risk(losses, np.ones_like(losses)) == pytest.approx(losses.mean())


def test_a_setting_that_fails_on_the_source_is_never_chosen() -> None:
    good, near, bad = Trial({}, 1.0, 3.0), Trial({}, 1.09, 2.0), Trial({}, 1.2, 0.1)
    assert choose([good, near, bad]) is near
    assert choose([bad]) is bad


@pytest.mark.parametrize(
    ("task", "kind"), [("classification", M3BATClassifier), ("regression", M3BATRegressor)]
)
@pytest.mark.parametrize("domains", [1, 5])
def test_selection_reads_no_target_label(task: str, kind: type, domains: int) -> None:
    data = make_shifted(rows=80, task=task)  # type: ignore[arg-type]
    labels = np.where(data.sample_domain < 0, -1, 1 + np.arange(len(data.y)) % domains)
    estimator = kind(modalities=data.modalities, **QUICK)
    wrong = np.where(labels < 0, data.y[::-1], data.y)
    found = [
        select(estimator, CANDIDATES, data.X, y, labels, seed=3)
        for y in (mask_targets(data.y, labels), data.y, wrong)
    ]
    assert (
        len({tuple((trial.source_loss, trial.target_risk) for trial in each.trials) for each in found}) == 1
    )
    assert len({each.chosen.options["strength"] for each in found}) == 1
    best = clone(estimator).set_params(**found[0].chosen.options).fit(data.X, data.y, sample_domain=labels)
    np.testing.assert_array_equal(found[0].estimator.predict(data.X), best.predict(data.X))


def test_selection_needs_candidates_and_source_rows() -> None:
    data = make_shifted(rows=10, task="classification")
    estimator = M3BATClassifier(**QUICK)
    with pytest.raises(OptionError, match="candidates is empty"):
        select(estimator, [], data.X, data.y, data.sample_domain)
    few = np.r_[0:3, 10:20]
    with pytest.raises(LabelsError, match="3 source rows"):
        select(estimator, CANDIDATES, data.X[few], data.y[few], data.sample_domain[few])
