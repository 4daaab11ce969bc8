"""Choosing the strength of the alignment without a single target label.

A strength is evaluated by an estimate of its risk on the target:

    R = L + S + max(0, D - D_0)

L is the loss of source rows that a network did not learn from. S is the distance, beyond chance, between the
labels given to the target and those given to the source, once its rows are weighted so that it looks like the
target: where more of the people are ill, alignment would hide it, and the weighted source says so; where a
sensor reads differently, no weights explain it, and alignment has to. D is how much networks that were
trained alike disagree about the target, D_0 how much those of strength 0 do. Alignment lowers D whether it is
right or wrong, so that is no merit; but networks that contradict each other are not aligned, they are lost.

Strength 0, the source model, is a candidate, and another one has to be clearly better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from scipy.stats import wasserstein_distance

from paramcast.methods.m3bat.domains import Task

_TINY = 1e-12
RIDGE = 1e-2
COVERED = 0.02
"""Share of the source rows that weights have to spread over, in effect, to count."""
MARGIN = 0.05
"""By this share of the source model's risk another strength has to be better."""
ENOUGH_DOMAINS = 4
"""So many source domains, and whole domains are held out, as the target is a domain apart too."""


@dataclass(frozen=True)
class Trial:
    """What is known of one strength without target labels.

    Attributes:
        strength: Factor of the alignment loss.
        source_loss: L; cross-entropy in nats, or absolute error in deviations of y.
        label_shift: S, in probability (half of the sum over classes), or in deviations of y.
        disagreement: D, in nats, or in deviations of y.
    """

    strength: float
    source_loss: float
    label_shift: float
    disagreement: float


def risks(trials: Sequence[Trial]) -> list[float]:
    """R of every trial; without one of strength 0, D_0 is the lowest D."""
    plain = [trial.disagreement for trial in trials if trial.strength == 0]
    usual = min(plain or [trial.disagreement for trial in trials])
    return [trial.source_loss + trial.label_shift + max(0.0, trial.disagreement - usual) for trial in trials]


def choose(trials: Sequence[Trial]) -> int:
    """Index of the lowest risk; the source model's, where it is a candidate and that is not MARGIN below."""
    found = risks(trials)
    best = int(np.argmin(found))
    for index, trial in enumerate(trials):
        if trial.strength == 0 and found[best] > (1 - MARGIN) * found[index]:
            return index
    return best


def folds(domains: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows that network 0, 1, ... may not learn from: each row is held out by one network.

    Args:
        domains: (Ns,) domain labels of the source rows.
        count: Number of networks.
        rng: Draws the parts.

    Returns:
        `count` index arrays; empty ones where there is one network alone, or too few rows to hold any out.
    """
    if count < 2 or len(domains) < 2 * count:
        return [np.empty(0, dtype=np.int64)] * count
    labels = np.unique(domains)
    if len(labels) >= max(ENOUGH_DOMAINS, count):
        parts = np.array_split(rng.permutation(labels), count)
        return [np.flatnonzero(np.isin(domains, part)) for part in parts]
    return list(np.array_split(rng.permutation(len(domains)), count))


def judge(
    task: Task,
    strength: float,
    source: np.ndarray,
    target: np.ndarray,
    labels: np.ndarray,
    held_out: Sequence[np.ndarray],
    weights: np.ndarray,
) -> Trial:
    """Judge the P networks of one strength by what they answer.

    Args:
        task: Says what an answer is.
        strength: Theirs.
        source: (P, Ns, K) answers to the source rows: probabilities, or (P, Ns, 1) values in deviations of y.
        target: (P, Nt, K) answers to the target rows.
        labels: (Ns,) class numbers, or values in deviations of y.
        held_out: P index arrays, the source rows that each network did not learn from; where there are none,
            it is evaluated on those that it did.
        weights: (Ns,) of the source rows, from `target_weights`.
    """
    rows = [each if len(each) else np.arange(len(labels)) for each in held_out]
    unseen = np.concatenate([answers[mine] for answers, mine in zip(source, rows, strict=True)])
    order = np.concatenate(rows)
    truth = labels[order]
    if task == "classification":
        loss = -np.log(np.maximum(unseen[np.arange(len(truth)), truth], _TINY))
        disagreement = _information(target)
    else:
        loss = np.abs(unseen[:, 0] - truth)
        disagreement = _spread(target)
    label_shift = _label_shift(unseen, target.mean(0), weights[order])
    return Trial(strength, float(loss.mean()), label_shift, disagreement)


def target_weights(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights of the source rows with which their means are the target's, and which differ least otherwise.

        w_i = exp(theta x_i) / Z with sum_i w_i x_i = mean of the target

    (entropy balancing: Hainmueller, Political Analysis 20, 2012). Where the target's means lie outside of
    what the source covers, a few rows would have to carry it all: then no weights explain the shift, and all
    are 1.

    Args:
        source: (Ns, F) standardized.
        target: (Nt, F).

    Returns:
        (Ns,) >= 0, with mean 1.
    """
    goal = target.mean(0)

    def dual(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logits = source @ theta
        gradient = softmax(logits) @ source - goal + RIDGE * theta
        return float(logsumexp(logits) - theta @ goal + RIDGE / 2 * theta @ theta), gradient

    found = minimize(dual, np.zeros(len(goal)), jac=True, method="L-BFGS-B")
    weights: np.ndarray = len(source) * softmax(source @ found.x)
    return weights if _effective(weights) >= COVERED * len(source) else np.ones(len(source))


def _effective(weights: np.ndarray) -> float:
    """So many rows of equal weight tell as much."""
    return float(weights.sum() ** 2 / np.sum(weights**2))


def _information(answers: np.ndarray) -> float:
    """Mutual information of answer and network, in nats: 0 where all P networks agree; of (P, N, K)."""
    return float((_entropy(answers.mean(0)) - _entropy(answers).mean(0)).mean())


def _spread(answers: np.ndarray) -> float:
    """Mean distance of a network's value from the mean of all; of (P, N, 1)."""
    return float(np.abs(answers - answers.mean(0)).mean())


def _label_shift(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    """Wasserstein distance of answers (Ns, K), (Nt, K), less two standard errors of a difference of means."""
    chance = 2 * (1 / _effective(weights) + 1 / len(target)) ** 0.5
    beyond = [
        max(0.0, float(wasserstein_distance(given, asked, weights) - chance * asked.std()))
        for given, asked in zip(source.T, target.T, strict=True)
    ]
    return sum(beyond) / min(2, len(beyond))


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    found: np.ndarray = -(probabilities * np.log(np.maximum(probabilities, _TINY))).sum(-1)
    return found
