"""CMDA-OT: what leaves a client, clients that fail, input that cannot be used, bounded memory."""

from __future__ import annotations

import tracemalloc
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
from paramcast.methods.cmda_ot.alignment import ALIGNMENTS, Aligner
from paramcast.methods.cmda_ot.messages import Evidence
from paramcast.methods.cmda_ot.pseudo import (
    agreement,
    beliefs,
    guidance,
    match,
    plan_share,
    reliability,
    spectral_clusters,
)
from paramcast.methods.cmda_ot.transport import TransportSettings, plan, refined, transport

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
        }
        assert evidence.plan.shape == evidence.model.shape == ((domain < 0).sum(), 3)


def _arrays(answer: Any) -> list[np.ndarray]:
    """All arrays of a message; a message holds nothing else but names and flags."""
    found = []
    for value in () if answer is None else (getattr(answer, field.name) for field in fields(answer)):
        if isinstance(value, np.ndarray):
            found.append(value)
        elif isinstance(value, dict):
            found += list(value.values())
        else:
            assert isinstance(value, str | bool | np.bool_ | float)
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


@pytest.mark.parametrize("kind", ALIGNMENTS)
def test_alignment(kind: Any) -> None:
    rng = np.random.default_rng(0)
    samples = np.column_stack([rng.exponential(size=101), np.full(101, 0.1)])
    aligned = Aligner(kind, samples)(samples)
    np.testing.assert_array_equal(np.argsort(aligned[:, 0]), np.argsort(samples[:, 0]))
    if kind != "none":
        np.testing.assert_allclose(aligned[:, 1], 0, atol=1e-12)
        np.testing.assert_allclose(aligned[:, 0].mean(), 0, atol=1e-12)
    if kind == "quantiles":  # whatever is monotone in the source's scale does not matter
        np.testing.assert_allclose(Aligner(kind, samples**3)(samples**3), aligned)
        unseen = Aligner(kind, samples)(np.array([[-1e9, -1e9], [1e9, 1e9]]))
        assert np.isfinite(unseen).all()


def test_plan_has_its_marginals_and_prefers_one_class() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    source, target = rng.normal(size=(40, 2)) + labels[:, None], rng.normal(size=(30, 2))
    plain = plan(source, labels, target, TransportSettings(0.05, 0.0))
    grouped = plan(source, labels, target, TransportSettings(0.05, 0.5))
    for coupling in (plain, grouped):
        np.testing.assert_allclose(coupling.sum(1), 1 / 40, atol=1e-4)
        np.testing.assert_allclose(coupling.sum(0), 1 / 30, atol=1e-4)

    def purity(coupling: np.ndarray) -> float:
        shares = np.eye(2)[labels].T @ coupling
        return float((shares.max(0) / shares.sum(0)).mean())

    assert purity(grouped) > purity(plain)


def test_plan_falls_back_to_logarithms() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)) + 50
    coupling = plan(source, np.zeros(20, int), target, TransportSettings(1e-5))
    assert np.isfinite(coupling).all()
    assert (coupling.sum(1) > 0).all()


def test_mini_batches_need_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=20_000)
    centres = 4 * np.eye(4, 6)
    source = centres[labels] + rng.normal(size=(20_000, 6))
    truth = rng.integers(4, size=1_000)
    target = centres[truth] + rng.normal(size=(1_000, 6))
    settings = TransportSettings(0.02, 0.01, batch_size=200, iterations=2, inner=20)
    tracemalloc.start()
    moved, votes, _ = transport(source, labels, target, target, 4, settings, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(votes.sum(1), 1)
    assert (votes.argmax(1) == truth).mean() > 0.8
    assert peak < 20e6  # one plan of all would take 160 MB, its gradient as much again


def test_more_target_than_source() -> None:
    rng = np.random.default_rng(0)
    settings = TransportSettings(0.05, 0.0, batch_size=16)
    target = rng.normal(size=(70, 2))
    moved, votes, _ = transport(
        rng.normal(size=(20, 2)), np.arange(20) % 2, target, target[:, :1] + 9, 2, settings, rng
    )
    assert moved.shape == (20, 1)  # to where the target is in the other space
    assert (moved > 5).all()
    np.testing.assert_allclose(votes.sum(1), 1)


def test_hierarchical_match_and_guidance() -> None:
    distances = np.array([[0.0, 5, 5], [5, 0, 5], [0, 0, 0]])
    votes = np.full((9, 3), 1 / 3)
    first = Evidence("a", np.array([True, True, False]), distances, votes, votes, 0.5)
    second = Evidence("b", np.ones(3, bool), np.array([[0.0, 5, 5], [5, 0, 5], [5, 5, 0]]), votes, votes, 0.5)
    clusters = np.repeat([0, 1, 2], 3)
    shares = match([first, second], np.bincount(clusters))
    np.testing.assert_array_equal(shares.argmax(1), [0, 1, 2])
    np.testing.assert_allclose(match([first], np.bincount(clusters))[:, 2], 0)
    belief = beliefs([first, second], clusters, 0.5, np.zeros((9, 2)))  # too few samples for a graph
    chosen = guidance(belief, share=0.34)
    np.testing.assert_array_equal(chosen.labels, [0, 1, 2])
    np.testing.assert_array_equal(clusters[chosen.rows], [0, 1, 2])


def test_spectral_clusters_of_many_and_of_few() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=2_100)
    blobs = 20 * truth[:, None] + rng.normal(size=(2_100, 2))
    clusters = spectral_clusters(blobs, 2, rng)
    assert len(np.unique(clusters)) == 2
    assert max((clusters == truth).mean(), (clusters != truth).mean()) > 0.99
    np.testing.assert_array_equal(spectral_clusters(blobs[:4], 3, rng), 0)


def test_beliefs_spread_to_neighbours_and_trust_the_near_source() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 30)
    target = rng.normal(size=(60, 2)) * 0.3 + 4 * truth[:, None]
    votes = np.eye(2)[truth]
    noisy = votes.copy()
    # A fifth is told wrongly, though not surely, each among neighbours that are told rightly.
    noisy[::5] = 0.4 * votes[::5] + 0.6 * votes[::5, ::-1]
    present, distances = np.ones(2, bool), np.zeros((2, 1))
    near = Evidence("near", present, distances, noisy, noisy, 0.2)
    far = Evidence("far", present, distances, votes[:, ::-1], votes[:, ::-1], 0.4)
    belief = beliefs([near, far], np.zeros(60, int), 0.0, target)
    np.testing.assert_array_equal(belief.argmax(1), truth)
    np.testing.assert_allclose(belief.sum(1), 1)


def test_what_clients_agree_in_counts_more() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=200)

    def seen(errors: float) -> np.ndarray:
        return np.eye(3)[np.where(rng.random(200) < errors, rng.integers(3, size=200), truth)]

    sure, unsure = [seen(0.1), seen(0.1), seen(0.1)], [seen(0.7), seen(0.7), seen(0.7)]
    assert agreement([sure[0], sure[0]]) == pytest.approx(1)
    assert abs(agreement([seen(1.0), seen(1.0)])) < 0.15
    assert plan_share(sure, unsure) > 0.8
    assert plan_share(unsure, sure) < 0.2
    assert plan_share(sure[:1], unsure[:1]) == 0.5  # one client: nobody to agree with
    assert reliability(sure[:2]) < reliability(sure) < 1  # more clients, a surer mean
    constant = np.eye(3)[np.zeros(200, int)]
    assert agreement([constant, constant]) == 0  # that all is one class is no agreement


def test_refining_finds_a_linear_shift() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=150)
    target = 3 * np.eye(3, 5)[labels] + rng.normal(size=(150, 5)) * 0.5
    source = target @ (np.eye(5) + 0.2 * rng.normal(size=(5, 5))) + 2
    moved = refined(source, labels, target, TransportSettings(), rng)
    assert np.linalg.norm(moved - target) < 0.5 * np.linalg.norm(source - target)


def test_above_pooled_sources_where_domains_are_shifted() -> None:
    X, y, domain = make_domains(150, seed=1)
    target = domain < 0
    X[target] += [4, -4, 2, -2]  # an offset that no linear rule of the sources allows for
    pooled = LogisticRegression(max_iter=1000).fit(X[~target], y[~target])
    model = CMDAOT(**FAST).fit(X, y, sample_domain=domain)
    assert model.score(X[target], y[target]) > pooled.score(X[target], y[target]) + 0.2
