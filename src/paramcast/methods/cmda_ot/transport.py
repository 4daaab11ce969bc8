"""Sinkhorn transport with L1L2 class regularization, in mini-batches: memory O(batch^2 + N (D + C)).

Courty, Flamary, Tuia, Rakotomamonjy, "Optimal Transport for Domain Adaptation" (TPAMI 2017): the plan
minimizes <G, M> + reg_entropy * sum G (log G - 1) + reg_class * sum_j sum_c ||G[class c, j]||_2 over the
couplings of two uniform measures, so that a target sample receives mass of few classes. Mini-batches:
Fatras et al., AISTATS 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import ot

WORST = 60.0
"""Bound of the excess cost of a pair over the best pair of its column, in units of the entropy weight.

A mass of e^-60 is as good as zero.
"""
RIDGE = 0.03
"""Ridge of the linear map, where the mean variance of a feature is 1."""


@dataclass(frozen=True)
class TransportSettings:
    """Settings of the plans.

    Attributes:
        reg_entropy: Weight of the entropy > 0, where the mean cost of a batch is 1.
        reg_class: Weight of the class regularization >= 0; 0 is plain Sinkhorn.
        batch_size: Largest number of samples of either side in one plan.
        refinements: Number of times that a linear map of the source is fitted to its images before the last
            plan.
        iterations: Iterations of conditional gradient, each with `inner` Sinkhorn iterations.
        inner: See `iterations`.
    """

    reg_entropy: float = 1e-2
    reg_class: float = 1e-2
    batch_size: int = 1000
    refinements: int = 3
    iterations: int = 4
    inner: int = 60


def plan(
    source: np.ndarray, labels: np.ndarray, target: np.ndarray, settings: TransportSettings
) -> np.ndarray:
    """Compute the coupling of two batches.

    Args:
        source: (n, D) float64.
        labels: (n,) int, its classes.
        target: (m, D) float64.
        settings: Settings of the regularization.

    Returns:
        (n, m) float64 >= 0, which sums to about 1. Where the class-regularized solver breaks down (weights
        too small for float64), it is the plan of plain Sinkhorn.
    """
    a, b = np.full(len(source), 1 / len(source)), np.full(len(target), 1 / len(target))
    cost = ot.dist(source, target)
    cost /= max(float(cost.mean()), 1e-300)
    # Subtracting a constant from a column does not change the plan. The bound keeps the kernel far from the
    # smallest floats, which are inexact and slow.
    cost = np.minimum(cost - cost.min(0), WORST * settings.reg_entropy)
    membership = np.eye(labels.max() + 1)[labels]  # (n, C)

    if not settings.reg_class:
        return _sinkhorn(a, b, cost, settings)

    def norms(coupling: np.ndarray) -> np.ndarray:
        each: np.ndarray = np.sqrt(membership.T @ coupling**2)  # (C, m)
        return each

    def gradient(coupling: np.ndarray) -> np.ndarray:
        slope: np.ndarray = coupling / np.maximum(norms(coupling)[labels], 1e-12)
        return slope

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # POT warns where it stops before convergence; its result is checked below.
        warnings.simplefilter("ignore")
        coupling = ot.optim.gcg(
            a,
            b,
            cost,
            settings.reg_entropy,
            settings.reg_class,
            lambda coupling: norms(coupling).sum(),
            gradient,
            numItermax=settings.iterations,
            numInnerItermax=settings.inner,
        )
    return np.asarray(coupling) if _sound(coupling) else _sinkhorn(a, b, cost, settings)


def _sinkhorn(a: np.ndarray, b: np.ndarray, cost: np.ndarray, settings: TransportSettings) -> np.ndarray:
    """Compute the plan without classes, on logarithms where float64 is not sufficient."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        coupling = ot.bregman.sinkhorn(a, b, cost, settings.reg_entropy, numItermax=settings.inner)
        if not _sound(coupling):
            coupling = ot.bregman.sinkhorn_log(a, b, cost, settings.reg_entropy, numItermax=settings.inner)
    return np.asarray(coupling)


def _sound(coupling: np.ndarray) -> bool:
    """Check whether every sample on either side is moved."""
    return bool(np.isfinite(coupling).all() and coupling.sum(0).all() and coupling.sum(1).all())


def transport(
    source: np.ndarray,
    labels: np.ndarray,
    target: np.ndarray,
    places: np.ndarray,
    classes: int,
    settings: TransportSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Move a source to the target, and its labels with it.

    Args:
        source: (n, D) float64.
        labels: (n,) int in [0, classes).
        target: (m, D) float64.
        places: (m, E) float64, the target samples in the space that the source moves to.
        classes: C.
        settings: Settings of the plans.
        rng: Draws the batches.

    Returns:
        (n, E) barycentric images of the source, diag(1 / G 1) G places; (m, C) the class shares of the mass
        that each target sample receives, rows summing to 1; and the mean cost of the plans, where the mean
        cost of all pairs is 1. This cost is a distance of the source from the target that does not depend on
        their units.
    """
    source = refined(source, labels, target, settings, rng)
    costs = []
    moved = np.empty((len(source), places.shape[1]))
    votes = np.zeros((len(target), classes))
    counts: np.ndarray = np.zeros(len(target))
    for rows, columns in _batches(len(source), len(target), settings.batch_size, rng):
        coupling = plan(source[rows], labels[rows], target[columns], settings)
        moved[rows] = coupling @ places[columns] / coupling.sum(1, keepdims=True)
        share = coupling.T @ np.eye(classes)[labels[rows]]
        votes[columns] += share / share.sum(1, keepdims=True)
        counts[columns] += 1
        cost = ot.dist(source[rows], target[columns])
        costs.append(float((coupling * cost).sum() / max(cost.mean(), 1e-300)))
    return moved, votes / counts[:, None], float(np.mean(costs))


def refined(
    source: np.ndarray,
    labels: np.ndarray,
    target: np.ndarray,
    settings: TransportSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """Move the source by a linear map, fitted in turns with a plan (cf. Perrot et al., NIPS 2016).

    A plan alone follows any offset and rotation between two domains. A map that is fitted to its images
    removes the common part of the shift, so that the next plan connects similar samples. The map is a ridge
    regression toward the identity, on one batch.

    Returns:
        (n, D) float64.
    """
    plain = replace(settings, reg_class=0.0)
    for _ in range(settings.refinements):
        rows = rng.permutation(len(source))[: settings.batch_size]
        columns = rng.permutation(len(target))[: settings.batch_size]
        some = source[rows]
        coupling = plan(some, labels[rows], target[columns], plain)
        images = coupling @ target[columns] / coupling.sum(1, keepdims=True)
        centre, goal = some.mean(0), images.mean(0)
        centred = some - centre
        scatter = centred.T @ centred
        ridge = max(RIDGE * np.trace(scatter) / len(scatter), 1e-12) * np.eye(len(scatter))
        change = np.linalg.solve(scatter + ridge, centred.T @ (images - goal - centred))
        source = goal + (source - centre) @ (np.eye(len(scatter)) + change)
    return source


def _batches(n: int, m: int, size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of random batches that cover both sides; samples of the smaller side occur repeatedly."""
    count = -(-max(n, m) // size)
    sides = [_split(rng.permutation(length), count, size, rng) for length in (n, m)]
    yield from zip(*sides, strict=True)


def _split(order: np.ndarray, count: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    parts = np.array_split(order, -(-len(order) // size))
    while len(parts) < count:
        parts += np.array_split(rng.permutation(order), -(-len(order) // size))
    return parts[:count]
