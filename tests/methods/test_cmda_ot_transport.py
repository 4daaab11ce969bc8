"""CMDA-OT's parts: alignment, transport plans in bounded memory, clusters, beliefs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paramcast.methods.cmda_ot.alignment import ALIGNMENTS, Aligner
from paramcast.methods.cmda_ot.messages import Evidence
from paramcast.methods.cmda_ot.pseudo import (
    agreement,
    beliefs,
    class_distances,
    guidance,
    match,
    plan_share,
    reliability,
    spectral_clusters,
)
from paramcast.methods.cmda_ot.transport import TransportSettings, plan, refined, transport


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
    first = Evidence("a", np.array([True, True, False]), distances, votes, votes, 0.5, 9)
    second = Evidence(
        "b", np.ones(3, bool), np.array([[0.0, 5, 5], [5, 0, 5], [5, 5, 0]]), votes, votes, 0.5, 9
    )
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


def test_beliefs_spread_to_neighbors_and_trust_the_near_source() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 30)
    target = rng.normal(size=(60, 2)) * 0.3 + 4 * truth[:, None]
    votes = np.eye(2)[truth]
    noisy = votes.copy()
    # A fifth is told wrongly, though not surely, each among neighbors that are told rightly.
    noisy[::5] = 0.4 * votes[::5] + 0.6 * votes[::5, ::-1]
    present, distances = np.ones(2, bool), np.zeros((2, 1))
    near = Evidence("near", present, distances, noisy, noisy, 0.2, 9)
    far = Evidence("far", present, distances, votes[:, ::-1], votes[:, ::-1], 0.4, 9)
    belief = beliefs([near, far], np.zeros(60, int), 0.0, target)
    np.testing.assert_array_equal(belief.argmax(1), truth)
    np.testing.assert_allclose(belief.sum(1), 1)
    large, small = replace(near, samples=100), replace(far, cost=near.cost, samples=1)
    np.testing.assert_array_equal(beliefs([large, small], np.zeros(60, int), 0.0, target).argmax(1), truth)


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


def test_a_single_cluster_needs_no_distances() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 2, 2])
    source, target = rng.normal(size=(4, 2)), rng.normal(size=(6, 2))
    halves = np.repeat([0, 1], 3)
    _, apart = class_distances(source, labels, target, halves, 3, rng)
    np.testing.assert_array_equal(apart > 0, [[True, True], [False, False], [True, True]])
    before = rng.bit_generator.state
    present, distances = class_distances(source, labels, target, np.zeros(6, int), 3, rng)
    np.testing.assert_array_equal(present, [True, False, True])
    np.testing.assert_array_equal(distances, np.zeros((3, 1)))
    assert rng.bit_generator.state == before  # nothing was drawn, hence nothing computed of samples
