from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from experiments.methods.m3bat.makers import Shifted, make_shifted
from paramcast.errors import InputError
from paramcast.methods import M3BATClassifier, M3BATRegressor
from paramcast.methods.m3bat import DomainError, LabelsError, OptionError, SamplesError, mask_targets

KINDS = {"classification": M3BATClassifier, "regression": M3BATRegressor}
QUICK: dict[str, Any] = {"steps": 12, "hidden": 8, "batch_size": 16, "networks": 2, "random_state": 0}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(task: str = "classification", rows: int = 60, **options: Any) -> Shifted:
    return make_shifted(rows=rows, task=task, **options)  # type: ignore[arg-type]


def fitted(kind: type, data: Shifted, **options: Any) -> Any:
    hidden = mask_targets(data.y, data.sample_domain)
    model = kind(**{"modalities": data.modalities, **QUICK, **options})
    return model.fit(data.X, hidden, sample_domain=data.sample_domain)


@parametrize_with_checks(
    [
        M3BATClassifier(steps=50, hidden=32, batch_size=32, networks=2),
        M3BATRegressor(steps=120, hidden=32, batch_size=32, networks=2, learning_rate=1e-2),
    ]
)
def test_scikit_learn_accepts_the_estimators(
    estimator: BaseEstimator, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without it the checks of array-API dispatch are skipped. scipy reads it when it is imported: its own
    # dispatch stays off, and makes no difference to the numpy arrays that these checks pass.
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


# Target labels


class Untouchable:
    """A label that nothing may look at."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("a target label was read")

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse
    __hash__ = __float__ = __int__ = __bool__ = __index__ = __str__ = __repr__ = __array__ = _refuse  # type: ignore[assignment]


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("alignment", ["adversarial", "coral"])
def test_target_labels_are_never_read(task: str, alignment: str) -> None:
    data = made(task)
    pairs = zip(data.y, data.sample_domain, strict=True)
    labels = [Untouchable() if domain < 0 else value.item() for value, domain in pairs]
    masked = fitted(KINDS[task], data, alignment=alignment)
    assert len(masked.trials_) > 1
    for y in (labels, np.fromiter(labels, dtype=object)):
        guarded = KINDS[task](modalities=data.modalities, alignment=alignment, **QUICK)
        guarded.fit(data.X, y, sample_domain=data.sample_domain)
        assert guarded.trials_ == masked.trials_
        np.testing.assert_array_equal(guarded.predict(data.X), masked.predict(data.X))


@pytest.mark.parametrize("task", KINDS)
def test_true_target_labels_change_nothing(task: str) -> None:
    data = made(task)
    masked = fitted(KINDS[task], data)
    told = KINDS[task](modalities=data.modalities, **QUICK).fit(
        data.X, data.y, sample_domain=data.sample_domain
    )
    for one, other in zip(masked.network_.parameters(), told.network_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_labels_are_masked_as_skada_does() -> None:
    domains = np.array([1, -2, 3])
    assert mask_targets(np.array([4, 5, 6]), domains).tolist() == [4, -1, 6]
    np.testing.assert_array_equal(mask_targets(np.array([4.0, 5.0, 6.0]), domains), [4, np.nan, 6])


# What is learnt


@pytest.mark.parametrize("shift", [{"offset": 1.5, "gain": 1.0}, {"offset": 0.0, "gain": 2.0}])
def test_alignment_recovers_from_a_shift_that_is_known(shift: dict[str, float]) -> None:
    data = made("regression", rows=300, **shift)
    target = data.sample_domain < 0
    options = {"steps": 150, "hidden": 16, "batch_size": 32, "learning_rate": 1e-2}
    errors = {
        alignment: np.abs(
            fitted(M3BATRegressor, data, **options, alignment=alignment).predict(data.X) - data.y
        )[target].mean()
        for alignment in ("none", "adversarial")
    }
    assert errors["adversarial"] < 0.8 * errors["none"]


def test_people_who_differ_are_not_aligned_away() -> None:
    # The target's states are others, the sensors are the same: the source model is right.
    rng = np.random.default_rng(0)
    state = rng.normal(size=(600, 3)) + np.where(np.arange(600) < 300, 0.0, 0.8)[:, None]
    X = state @ rng.normal(size=(3, 8)) + rng.normal(size=(600, 8))
    y = state.sum(1) + 0.1 * rng.normal(size=600)
    domains = np.where(np.arange(600) < 300, 1, -1)
    model = M3BATRegressor(steps=150, hidden=16, batch_size=32, learning_rate=1e-2, random_state=0)
    model.fit(X, mask_targets(y, domains), sample_domain=domains)
    assert model.strength_ == 0
    assert [trial.strength for trial in model.trials_] == [0.0, 0.1, 0.3, 1.0]


def test_the_shifted_modality_weighs_most() -> None:
    data = made("regression", rows=200)
    model = fitted(M3BATRegressor, data)
    assert list(model.weights_) == ["shared", "steady", "drifting"]
    assert model.weights_["drifting"] > 1 > model.weights_["steady"]
    assert np.mean(list(model.weights_.values())) == pytest.approx(1)
    assert set(fitted(M3BATRegressor, data, weighting="uniform").weights_.values()) == {1.0}
    shifted = fitted(M3BATRegressor, data, branches="shift")
    assert set(shifted.branches_["shift 2"]) == set(data.modalities["drifting"])
    assert shifted.shift_.by_branch()["shift 2"] > 1


@pytest.mark.parametrize(
    "options",
    [
        {"branches": "one"},
        {"branches": "shift", "shift_branches": 3},
        {"weighting": "uniform"},
        {"discriminators": "one"},
        {"schedule": "end_to_end"},
        {"alignment": "coral"},
        {"alignment": "none"},
    ],
)
@pytest.mark.parametrize("task", KINDS)
def test_each_option_trains_and_makes_its_own_model(task: str, options: dict[str, Any]) -> None:
    data = made(task)
    model, again, plain = (fitted(KINDS[task], data, strength=1.0, **o) for o in (options, options, {}))
    np.testing.assert_array_equal(model.predict(data.X), again.predict(data.X))
    assert not np.array_equal(model._answers(data.X), plain._answers(data.X))
    assert np.isfinite(model.score(data.X, data.y))
    assert clone(model).get_params() == model.get_params()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(data.X), model.predict(data.X))


def test_raw_windows_go_through_convolutions() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    waves = np.sin(np.arange(50) * np.array([0.3, 0.9])[y][:, None] + rng.uniform(0, 6, size=(120, 1)))
    X = np.stack([waves, -waves, 0.1 * rng.normal(size=waves.shape)], axis=2)
    domains = np.where(rng.permutation(120) < 60, 1, -1)
    X[domains < 0, :, 2] += 0.1
    modalities = {"swing": [0, 1], "noise": [2]}
    options = {**QUICK, "steps": 150, "hidden": 16, "learning_rate": 1e-2}
    model = M3BATClassifier(modalities=modalities, **options)
    model.fit(X, mask_targets(y, domains), sample_domain=domains)
    assert model.weights_["noise"] > model.weights_["swing"]
    assert model.score(X[domains < 0], y[domains < 0]) > 0.9
    assert model.predict_proba(X).shape == (120, 2)
    with pytest.raises(SamplesError, match=r"\(50, 2\).*\(50, 3\)"):
        model.predict(X[:, :, :2])


# Bad input


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (lambda d: np.ones_like(d), "no target rows"),
        (lambda d: -np.ones_like(d), "no source rows"),
        (lambda d: np.maximum(d, 0), "neither source"),
        (lambda d: d[:-1], "one domain label for each"),
        (lambda d: d + 0.5, "whole numbers"),
        (lambda d: d * np.nan, "whole numbers"),
        (lambda d: d.astype(str), "whole numbers"),
    ],
)
def test_domains_that_say_nothing_are_refused(domains: Any, message: str) -> None:
    data = made()
    with pytest.raises(DomainError, match=message):
        M3BATClassifier(**QUICK).fit(data.X, data.y, sample_domain=domains(data.sample_domain))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    data = made()
    X = data.X.copy()
    X[-1, 0] = value
    with pytest.raises(SamplesError, match=r"NaN|infinity"):
        M3BATClassifier(**QUICK).fit(X, data.y, sample_domain=data.sample_domain)
    with pytest.raises(SamplesError, match=r"NaN|infinity"):
        fitted(M3BATClassifier, data).predict(X)


def test_other_columns_than_in_fit_are_refused() -> None:
    model = fitted(M3BATClassifier, made())
    with pytest.raises(SamplesError, match="15 features, but M3BATClassifier is expecting 16"):
        model.predict(made().X[:, 1:])
    with pytest.raises(SamplesError, match="4 dimensions"):
        model.fit(np.zeros((4, 3, 2, 2)), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("task", "y", "message"),
    [
        ("classification", lambda y: np.where(np.arange(len(y)) == 0, -1, y), "label -1"),
        ("classification", lambda y: np.zeros_like(y), "one class only"),
        ("classification", lambda y: y[:-1], "119 labels for 120"),
        ("classification", lambda y: np.where(np.arange(len(y)) == 0, np.nan, y), "NaN"),
        ("classification", lambda _: 3, "sequence"),
        ("classification", lambda y: y + np.linspace(0, 1, len(y)), "continuous"),
        ("regression", lambda y: np.where(np.arange(len(y)) == 0, np.nan, y), "NaN"),
        ("regression", lambda y: np.array(["far"] * len(y)), "numbers"),
    ],
)
def test_labels_that_teach_nothing_are_refused(task: str, y: Any, message: str) -> None:
    data = made(task)
    with pytest.raises(LabelsError, match=message):
        KINDS[task](**QUICK).fit(data.X, y(data.y), sample_domain=data.sample_domain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branches": "two"}, "choose one of auto, modality"),
        ({"branches": "modality"}, "needs modalities"),
        ({"modalities": {"a": [99]}}, "columns 0 to 15"),
        ({"steps": 0}, "steps=0"),
        ({"dropout": 1.0}, "dropout"),
        ({"strength": -1}, "strength=-1"),
        ({"strength": []}, "strength"),
        ({"networks": 0}, "networks=0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    data = made()
    with pytest.raises(OptionError, match=message):
        M3BATClassifier(**{**QUICK, **options}).fit(data.X, data.y, sample_domain=data.sample_domain)


@pytest.mark.parametrize("kind", [SamplesError, DomainError, LabelsError, OptionError])
def test_errors_are_both_paramcasts_and_scikit_learns(kind: type[Exception]) -> None:
    assert issubclass(kind, InputError)
    assert issubclass(kind, ValueError)


def test_a_class_that_one_source_lacks_is_learnt_from_the_others() -> None:
    data = made()
    y = np.array(["down", "up"])[data.y]
    y[data.sample_domain < 0] = "?"
    domains = np.where(data.sample_domain < 0, -9, np.where(y == "up", 1, 2))
    model = M3BATClassifier(modalities=data.modalities, **QUICK).fit(data.X, y, sample_domain=domains)
    assert model.classes_.tolist() == ["down", "up"]


def test_a_feature_that_is_constant_in_the_source_is_ignored() -> None:
    data = made()
    X = np.column_stack([data.X, np.where(data.sample_domain < 0, 1e9, 0.1)])
    model = M3BATClassifier(modalities=data.modalities, **QUICK)
    model.fit(X, data.y, sample_domain=data.sample_domain)
    other = X.copy()
    other[:, -1] = -7.0
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(X))


def test_values_far_outside_of_the_source_stay_finite() -> None:
    data = made()
    X = data.X.copy()
    X[data.sample_domain < 0, 0] = 1e100
    model = M3BATClassifier(modalities=data.modalities, **QUICK)
    model.fit(X, data.y, sample_domain=data.sample_domain)
    assert np.isfinite(model.predict_proba(X)).all()


def test_one_target_row_is_enough_to_run() -> None:
    data = made()
    kept = np.arange(len(data.X)) <= 60
    part = Shifted(data.X[kept], data.y[kept], data.sample_domain[kept], data.modalities)
    assert fitted(M3BATClassifier, part).predict(part.X).shape == (61,)


def test_without_domains_the_source_model_is_trained() -> None:
    data = made()
    model = M3BATClassifier(**QUICK).fit(data.X, data.y)
    assert model.shift_ is None
    assert list(model.branches_) == ["all"]


def test_importing_the_methods_needs_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, paramcast.methods as m; assert not {'torch', 'sklearn'} & set(sys.modules); "
        "assert 'M3BATClassifier' in dir(m); m.M3BATRegressor; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
