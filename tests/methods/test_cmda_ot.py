"""CMDA-OT: what leaves a client, clients that fail, input that cannot be used, bounded memory."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import column_or_1d
from sklearn.utils.estimator_checks import parametrize_with_checks

from paramcast.errors import InputError
from paramcast.methods import CMDAOT
from paramcast.methods.cmda_ot import FederationError, FederationInputError

FAST: dict[str, Any] = {"rounds": 3, "local_steps": 40, "learning_rate": 0.02, "hidden": 16, "batch_size": 64}


def make_domains(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three blobs seen by two sources and a target, each with its own scale and offset of every feature."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 3, 0, 0], [3, 0, 0, 0], [0, 0, 3, 0]])
    parts = []
    for domain, (scale, offset) in {1: (1, 0), 2: (3, 5), -1: (0.5, -4)}.items():
        labels = rng.integers(3, size=rows)
        features = centres[labels] + rng.normal(size=(rows, 4)) * 0.6
        parts.append((features * scale + offset, labels, np.full(rows, domain)))
    X, y, domains = (np.concatenate(each) for each in zip(*parts, strict=True))
    return X, y, domains


@pytest.fixture(scope="module")
def domains() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return make_domains()


class Recorder:
    """A client that keeps all that passes through it; `spoil` changes (or refuses) an answer."""

    def __init__(self, client: Any, spoil: Any = None) -> None:
        self.client, self.name, self.answers = client, client.name, []
        self.spoil = spoil or (lambda step, answer: answer)

    def evidence(self, invitation: Any) -> Any:
        return self._sent("evidence", self.client.evidence(invitation))

    def choose(self, guidance: Any) -> Any:
        return self._sent("choose", self.client.choose(guidance))

    def update(self, message: Any) -> Any:
        return self._sent(f"round {message.round}", self.client.update(message))

    def _sent(self, step: str, answer: Any) -> Any:
        self.answers.append(self.spoil(step, answer))
        return self.answers[-1]


class Recorded(CMDAOT):
    """CMDA-OT whose clients are recorded; the client of source 1 is spoilt."""

    def __init__(self, spoil: Any = None, rounds: int = 3, hidden: int = 16, batch_size: int = 64) -> None:
        super().__init__(rounds=rounds, hidden=hidden, batch_size=batch_size)
        self.spoil = spoil

    def clients(self, X: np.ndarray, codes: np.ndarray, domain: np.ndarray) -> Any:
        made = super().clients(X, codes, domain)
        self.recorders = [Recorder(each, self.spoil if each.name == "1" else None) for each in made]
        return self.recorders


def test_learns_what_sources_share(domains: Any) -> None:
    X, y, domain = domains
    target = domain < 0
    model = CMDAOT(**FAST).fit(X, y, sample_domain=domain)
    assert model.score(X[target], y[target]) > 0.9
    shares = model.predict_proba(X[target], sample_domain=domain[target])
    np.testing.assert_allclose(shares.sum(1), 1)
    assert set(model.pseudo_rows_) <= set(np.flatnonzero(target))
    assert (model.pseudo_labels_ == y[model.pseudo_rows_]).mean() > 0.9
    assert set(model.transported_) == set(model.scores_) == {"1", "2"}
    assert model.left_out_ == []


def test_target_labels_are_never_read(domains: Any) -> None:
    X, y, domain = domains
    poisoned = y.astype(object)
    poisoned[domain < 0] = [object() for _ in range((domain < 0).sum())]
    plain, blind = CMDAOT(**FAST).fit(X, y, domain), CMDAOT(**FAST).fit(X, poisoned, domain)
    for name, value in plain.weights_.items():
        np.testing.assert_array_equal(value, blind.weights_[name])


def test_no_source_sample_leaves_a_client(domains: Any) -> None:
    X, y, domain = domains
    model = Recorded().fit(X, y, domain)
    # What a client must keep: its samples, raw and aligned, and its labels in their order.
    for recorder in model.recorders:
        client = recorder.client
        secrets = np.concatenate([X[domain == int(client.name)], client._source])
        for answer in recorder.answers:
            for array in _arrays(answer):
                for row in [*array, *array.T] if array.ndim == 2 else [array]:
                    if len(row) == X.shape[1]:
                        assert np.abs(secrets - row).max(1).min() > 1e-6
                assert array.shape[0] != len(client._labels) or array.ndim == 2
        evidence = recorder.answers[0]
        assert {field.name for field in fields(evidence)} == {
            "client",
            "present",
            "distances",
            "plan",
            "model",
            "cost",
            "samples",
        }
        assert evidence.plan.shape == evidence.model.shape == ((domain < 0).sum(), 3)


def _arrays(answer: Any) -> list[np.ndarray]:
    """All arrays of a message; a message holds nothing else but names, flags and single numbers."""
    found = []
    for value in () if answer is None else (getattr(answer, field.name) for field in fields(answer)):
        if isinstance(value, np.ndarray):
            found.append(value)
        elif isinstance(value, dict):
            found += list(value.values())
        else:
            assert isinstance(value, str | bool | np.bool_ | int | float)
    return found


def _raise(step: str, answer: Any) -> Any:
    if step == "round 2":
        raise ConnectionError("the client is gone")
    return answer


def _not_finite(step: str, answer: Any) -> Any:
    if step != "round 2":
        return answer
    return replace(answer, weights={name: value * np.nan for name, value in answer.weights.items()})


def _other_shape(step: str, answer: Any) -> Any:
    return replace(answer, weights={"0.weight": np.zeros(3)}) if step == "round 2" else answer


@pytest.mark.parametrize(
    ("spoil", "reason"), [(_raise, "gone"), (_not_finite, "NaN"), (_other_shape, "sent weights")]
)
def test_a_client_that_fails_is_left_out_of_its_round(domains: Any, spoil: Any, reason: str) -> None:
    X, y, domain = domains
    model = Recorded(spoil).fit(X, y, domain)
    assert [(each.step, each.client) for each in model.left_out_] == [("round 2", "1")]
    assert reason in model.left_out_[0].reason
    assert all(np.isfinite(value).all() for value in model.weights_.values())
    assert set(model.scores_) == {"1", "2"}  # it came back in round 3


def test_bad_evidence_is_left_out(domains: Any) -> None:
    X, y, domain = domains

    def spoil(step: str, answer: Any) -> Any:
        return replace(answer, plan=answer.plan * np.inf) if step == "evidence" else answer

    model = Recorded(spoil).fit(X, y, domain)
    assert set(model.scores_) == {"2"}
    assert model.left_out_[0].step == "evidence"

    def none(step: str, answer: Any) -> Any:
        return replace(answer, samples=0) if step == "evidence" else answer

    assert "less than 1" in Recorded(none).fit(X, y, domain).left_out_[0].reason


def test_no_client_left(domains: Any) -> None:
    X, y, domain = domains
    with pytest.raises(FederationError, match=r"round 2: no client is left \(1: the client is gone\)"):
        Recorded(_raise).fit(X[domain != 2], y[domain != 2], domain[domain != 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y, d: (X, y, None), "give sample_domain"),
        (lambda X, y, d: (X, y, np.abs(d)), "no target"),
        (lambda X, y, d: (X, y, -np.abs(d)), "no source"),
        (lambda X, y, d: (X, y, d * 0), "positive"),
        (lambda X, y, d: (X, y, d[:-1]), "as many"),
        (lambda X, y, d: (X, y[:-1], d), "as many"),
        (lambda X, y, d: (X * np.nan, y, d), "NaN"),
        (lambda X, y, d: (X * np.inf, y, d), "inf"),
        (lambda X, y, d: (X[0], y, d), "2D"),
        (lambda X, y, d: (X, y * 0, d), "one class only"),
        (lambda X, y, d: (X, y * np.nan, d), "label of a source is missing"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_input(domains: Any, change: Any, message: str) -> None:
    X, y, domain = change(*domains)
    with pytest.raises(FederationInputError, match=message) as caught:
        CMDAOT(**FAST).fit(X, y, sample_domain=domain)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "options",
    [
        {"alignment": "no"},
        {"reg_entropy": 0},
        {"subset_share": 1.5},
        {"rounds": 0},
        {"reg_class": -1},
        {"random_state": None},
    ],
)
def test_bad_options(domains: Any, options: dict[str, Any]) -> None:
    X, y, domain = domains
    with pytest.raises(FederationInputError, match=next(iter(options))):
        CMDAOT(**FAST | options).fit(X, y, sample_domain=domain)


def test_prediction_checks(domains: Any) -> None:
    X, y, domain = domains
    model = CMDAOT(**FAST).fit(X, y, sample_domain=domain)
    with pytest.raises(FederationInputError, match="2 features"):
        model.predict(X[:, :2])
    with pytest.raises(FederationInputError, match="target only"):
        model.predict(X, sample_domain=domain)


def test_text_labels_missing_class_and_constant_feature(domains: Any) -> None:
    X, y, domain = domains
    X = np.column_stack([X, np.full(len(X), 0.1)])
    names = np.array(["ant", "bee", "cow"])[y]
    kept = ~((domain == 1) & (y == 2))  # source 1 has no cow
    model = CMDAOT(**FAST).fit(X[kept], names[kept], domain[kept])
    assert model.score(X[domain < 0], names[domain < 0]) > 0.8


@pytest.mark.parametrize("rows", [1, 2, 11])
def test_few_target_rows_and_one_source(domains: Any, rows: int) -> None:
    X, y, domain = domains
    kept = np.concatenate([np.flatnonzero(domain == 1), np.flatnonzero(domain < 0)[:rows]])
    model = CMDAOT(**FAST).fit(X[kept], y[kept], domain[kept])
    assert model.predict(X[domain < 0]).shape == (60,)
    assert len(model.pseudo_rows_) <= rows


def test_clusters_matched_to_classes_as_in_the_paper(domains: Any) -> None:
    X, y, domain = domains
    model = CMDAOT(**FAST, cluster_weight=1.0).fit(X, y, domain)
    assert model.score(X[domain < 0], y[domain < 0]) > 0.9


class OneTable(CMDAOT):
    """For checks that know no domains: every row is given as a source's and as the target's."""

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> CMDAOT:
        if y is None:
            return super().fit(X, y)
        rows = self._samples(X, reset=True)
        names = getattr(self, "feature_names_in_", None)
        both = np.concatenate([rows, rows])
        twice = both if names is None else pd.DataFrame(both, columns=names)
        labels = column_or_1d(y, warn=True)
        super().fit(twice, np.concatenate([labels, labels]), np.repeat([1, -1], len(rows)))
        return self


@parametrize_with_checks([OneTable(rounds=1, final_steps=64, hidden=16)])
def test_scikit_learn_accepts_the_estimator(
    estimator: OneTable, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the checks of array-API dispatch are skipped
    check(estimator)


def test_clone_and_parameters() -> None:
    model = clone(CMDAOT(rounds=7)).set_params(hidden=3)
    assert (model.get_params()["rounds"], model.hidden) == (7, 3)


def test_above_pooled_sources_where_domains_are_shifted() -> None:
    X, y, domain = make_domains(150, seed=1)
    target = domain < 0
    X[target] += [4, -4, 2, -2]  # an offset that no linear rule of the sources allows for
    pooled = LogisticRegression(max_iter=1000).fit(X[~target], y[~target])
    model = CMDAOT(**FAST).fit(X, y, sample_domain=domain)
    assert model.score(X[target], y[target]) > pooled.score(X[target], y[target]) + 0.2
