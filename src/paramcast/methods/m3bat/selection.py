"""Choosing among settings without a single target label.

A setting has to hold on held-out source rows, and among those that do the one wins whose loss is lowest once
these rows are weighted as the target would weight them: Deep Embedded Validation (You et al., ICML 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from paramcast.methods.m3bat.domains import source_rows
from paramcast.methods.m3bat.errors import LabelsError, OptionError
from paramcast.methods.m3bat.estimators import M3BATClassifier, M3BATRegressor

Estimator = M3BATClassifier | M3BATRegressor
HELD_OUT = 0.25
TOLERANCE = 0.1
ENOUGH_DOMAINS = 4


@dataclass(frozen=True)
class Trial:
    """One setting.

    Attributes:
        options: What was set.
        source_loss: Mean loss of the held-out source rows.
        target_risk: The same, weighted toward the target.
    """

    options: dict[str, Any]
    source_loss: float
    target_risk: float


@dataclass(frozen=True)
class Selection:
    """The best setting, fitted to all rows, and all trials in the order of the candidates."""

    estimator: Estimator
    chosen: Trial
    trials: tuple[Trial, ...]


def select(
    estimator: Estimator,
    candidates: Sequence[Mapping[str, Any]],
    X: np.ndarray,
    y: np.ndarray,
    sample_domain: np.ndarray,
    seed: int = 0,
) -> Selection:
    """Fit every candidate on three quarters of the source (and the unlabelled target), and choose.

    Held out are whole source domains where there are four or more, as the target is a domain apart too;
    otherwise rows drawn at random.

    Args:
        estimator: Cloned for every candidate.
        candidates: Options to set, one mapping a candidate.
        X: (N, F) or (N, T, C).
        y: (N,) labels; target rows are never read.
        sample_domain: (N,) positive for source, negative for target; both occur.
        seed: Of the split.

    Raises:
        OptionError: No candidates.
        LabelsError: Too few source rows to hold any out.
    """
    if not candidates:
        raise OptionError("candidates is empty: give at least one mapping of options")
    source = source_rows(sample_domain, len(X))
    held_out = _held_out(np.asarray(sample_domain), source, seed)
    kept = ~held_out
    trials = []
    for options in candidates:
        model = (
            clone(estimator).set_params(**options).fit(X[kept], y[kept], sample_domain=sample_domain[kept])
        )
        losses = model.losses(X[held_out], y[held_out])
        weights = density_ratio(
            *(model.representation(X[rows]) for rows in (kept & source, held_out, ~source))
        )
        trials.append(Trial(dict(options), float(losses.mean()), weighted_risk(losses, weights)))
    chosen = choose(trials)
    best = clone(estimator).set_params(**chosen.options).fit(X, y, sample_domain=sample_domain)
    return Selection(best, chosen, tuple(trials))


def choose(trials: Sequence[Trial]) -> Trial:
    """The lowest target risk among those whose source loss is within a tenth of the lowest."""
    limit = (1 + TOLERANCE) * min(trial.source_loss for trial in trials)
    return min((trial for trial in trials if trial.source_loss <= limit), key=lambda trial: trial.target_risk)


def density_ratio(train: np.ndarray, held_out: np.ndarray, target: np.ndarray) -> np.ndarray:
    """p_target(z) / p_source(z) at held-out source rows, from a classifier of the domains.

    Args:
        train: (Ns, D) representations of the source rows that the model was fitted to.
        held_out: (Nv, D) of those that it was not.
        target: (Nt, D).

    Returns:
        (Nv,) >= 0, with mean 1.
    """
    domains = np.repeat([0, 1], [len(train), len(target)])
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced")
    )
    classifier.fit(np.concatenate([train, target]), domains)
    # The logit of balanced classes is the log ratio; the bound keeps single rows from deciding everything.
    ratio = np.exp(np.clip(classifier.decision_function(held_out), -4, 4))
    normalised: np.ndarray = ratio / ratio.mean()
    return normalised


def weighted_risk(losses: np.ndarray, weights: np.ndarray) -> float:
    """Importance-weighted mean loss with the control variate of Deep Embedded Validation.

        R = mean(w l) + eta mean(w) - eta,   eta = -cov(w l, w) / var(w)

    Args:
        losses: (N,) >= 0.
        weights: (N,) >= 0.
    """
    weighted = losses * weights
    variance = float(weights.var())
    eta = (
        -float(np.mean((weighted - weighted.mean()) * (weights - weights.mean()))) / variance
        if variance > 0
        else 0.0
    )
    return float(weighted.mean() + eta * weights.mean() - eta)


def _held_out(domains: np.ndarray, source: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(source)
    if len(rows) < 4:
        raise LabelsError(
            f"{len(rows)} source rows are too few to hold any out for selection: give 4 or more"
        )
    held_out = np.zeros(len(domains), dtype=bool)
    labels = np.unique(domains[rows])
    if len(labels) >= ENOUGH_DOMAINS:
        drawn = rng.permutation(labels)[: max(1, round(HELD_OUT * len(labels)))]
        held_out[rows] = np.isin(domains[rows], drawn)
    else:
        held_out[rng.permutation(rows)[: max(1, round(HELD_OUT * len(rows)))]] = True
    return held_out
