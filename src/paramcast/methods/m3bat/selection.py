"""Choice of the strength of the alignment without any target label.

A strength is evaluated by an estimate of its risk on the target:

    R = L + S + max(0, D - D_0)

L is the loss on source rows that a network did not learn from.

S is the distance, beyond chance, between the labels given to the target and the labels given to the source.
The source rows are first weighted so that they look like the target. Suppose that more people are ill in the
target: alignment would hide it, but the weighted source shows the higher share, so S grows. Suppose
that a sensor has different readings: no weights explain it, and alignment has to correct it.

D is the disagreement about the target between networks that were trained in the same way. D_0 is the
disagreement at strength 0. Alignment lowers D whether it is right or wrong, so a low D earns nothing. But
networks with a higher D contradict each other: their alignment failed.

Strength 0, the source model, is a candidate. Another strength has to be clearly better.
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
"""Weights count only if their effective number of rows is at least this share of the source rows."""
MARGIN = 0.05
"""The risk of another strength has to be lower than that of the source model by this share."""
ENOUGH_DOMAINS = 4
"""From this number of source domains on, whole domains are held out, since the target is a new domain too."""


@dataclass(frozen=True)
class Trial:
    """Evaluation of one strength without target labels.

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
    """Compute R of every trial; without a trial of strength 0, D_0 is the lowest D."""
    plain = [trial.disagreement for trial in trials if trial.strength == 0]
    usual = min(plain or [trial.disagreement for trial in trials])
    return [trial.source_loss + trial.label_shift + max(0.0, trial.disagreement - usual) for trial in trials]


def choose(trials: Sequence[Trial]) -> int:
    """Return the index of the lowest risk.

    If strength 0 is a candidate, and the lowest risk is not MARGIN below its risk, return its index instead.
    """
    found = risks(trials)
    best = int(np.argmin(found))
    for index, trial in enumerate(trials):
        if trial.strength == 0 and found[best] > (1 - MARGIN) * found[index]:
            return index
    return best


def folds(domains: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Choose the rows that network 0, 1, ... may not learn from; each row is held out by one network.

    Args:
        domains: (Ns,) domain labels of the source rows.
        count: Number of networks.
        rng: Draws the parts.

    Returns:
        `count` index arrays. They are empty for a single network, and where there are too few rows to hold
        any out.
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
    """Evaluate the P networks of one strength by their answers.

    Args:
        task: Classification or regression, which sets the form of an answer.
        strength: Strength of the networks.
        source: (P, Ns, K) answers to the source rows: probabilities, or (P, Ns, 1) values in deviations of y.
        target: (P, Nt, K) answers to the target rows.
        labels: (Ns,) class numbers, or values in deviations of y.
        held_out: P index arrays, the source rows that each network did not learn from. A network with an
            empty array is evaluated on all source rows.
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
    """Compute weights of the source rows so that their means equal the target's, as evenly as possible.

        w_i = exp(theta x_i) / Z with sum_i w_i x_i = mean of the target

    (entropy balancing: Hainmueller, Political Analysis 20, 2012). If the means of the target lie outside the
    range of the source, a few rows would get all the weight. Then no weights explain the shift, and all
    weights are 1.

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
    """Compute the effective sample size: the number of equally weighted rows with the same information."""
    return float(weights.sum() ** 2 / np.sum(weights**2))


def _information(answers: np.ndarray) -> float:
    """Compute the mutual information in nats of answer and network, (P, N, K); 0 where all P agree."""
    return float((_entropy(answers.mean(0)) - _entropy(answers).mean(0)).mean())


def _spread(answers: np.ndarray) -> float:
    """Compute the mean distance of a network's value from the mean of all networks, of (P, N, 1)."""
    return float(np.abs(answers - answers.mean(0)).mean())


def _label_shift(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    """Compute the Wasserstein distance of answers (Ns, K), (Nt, K), beyond chance.

    Chance is two standard errors of a difference of means.
    """
    chance = 2 * (1 / _effective(weights) + 1 / len(target)) ** 0.5
    beyond = [
        max(0.0, float(wasserstein_distance(given, asked, weights) - chance * asked.std()))
        for given, asked in zip(source.T, target.T, strict=True)
    ]
    return sum(beyond) / min(2, len(beyond))


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    found: np.ndarray = -(probabilities * np.log(np.maximum(probabilities, _TINY))).sum(-1)
    return found
