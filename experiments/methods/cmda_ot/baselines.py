"""Baselines of CMDA-OT. Every method trains the same classifier for the same number of steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import ot
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler

from experiments.methods.cmda_ot.datasets import Problem
from paramcast.methods.cmda_ot import model
from paramcast.methods.cmda_ot.alignment import Aligner, Alignment
from paramcast.methods.cmda_ot.estimator import CMDAOT
from paramcast.methods.cmda_ot.transport import TransportSettings, transport

Method = Callable[..., float]
"""A problem and a seed -> accuracy on the target, in percent."""

ROUNDS, STEPS = 10, 64  # the defaults of CMDA-OT
_TRAINING = model.TrainSettings()
_PLANS = TransportSettings(refinements=0)
FOREST_TREES, FOREST_DEPTH = 1000, 13


class Prepared:
    """A problem after alignment, classes numbered from 0: sources (n, D), (n,); target X (N, D), y (N,).

    Args:
        problem: The problem.
        alignment: Alignment of CMDA-OT, to show the effect of alignment alone; `none` changes nothing.
    """

    def __init__(self, problem: Problem, alignment: Alignment) -> None:
        classes = np.unique(np.concatenate([y for _, y in problem.sources]))
        self.classes = len(classes)
        self.sources = [(Aligner(alignment, X)(X), np.searchsorted(classes, y)) for X, y in problem.sources]
        self.X = Aligner(alignment, problem.X)(problem.X)
        self.y = np.searchsorted(classes, problem.y)

    def pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """Join all sources to one."""
        X, y = (np.concatenate(each) for each in zip(*self.sources, strict=True))
        return X, y

    def scored(self, X: np.ndarray, y: np.ndarray, seed: int) -> float:
        """Train the classifier on X (n, D), y (n,), and return its accuracy in percent."""
        scale = StandardScaler().fit(X)
        start = model.initial(X.shape[1], self.classes, _TRAINING.hidden, seed)
        weights = model.train(start, scale.transform(X), y, ROUNDS * STEPS, _TRAINING, seed)
        return 100 * model.accuracy(weights, scale.transform(self.X), self.y)

    def forest(self, X: np.ndarray, y: np.ndarray, seed: int) -> float:
        """Train the published protocol's random forest, and return its accuracy in percent."""
        trees = RandomForestClassifier(FOREST_TREES, max_depth=FOREST_DEPTH, random_state=seed).fit(X, y)
        return 100 * float(trees.score(self.X, self.y))

    def moved(self, X: np.ndarray, y: np.ndarray, seed: int, reg_class: float) -> np.ndarray:
        """Move X (n, D) to the target by Sinkhorn transport."""
        plans = replace(_PLANS, reg_class=reg_class)
        images, _, _ = transport(X, y, self.X, self.X, self.classes, plans, np.random.default_rng(seed))
        return images


def pooled(problem: Problem, seed: int, alignment: Alignment = "none", forest: bool = False) -> float:
    """Train on all sources as one training set."""
    data = Prepared(problem, alignment)
    return data.forest(*data.pooled(), seed) if forest else data.scored(*data.pooled(), seed)


def fedavg(problem: Problem, seed: int, alignment: Alignment = "none") -> float:
    """Average by number of samples (McMahan et al., 2017): no transport, no pseudo-labels."""
    data = Prepared(problem, alignment)
    # Means and deviations over all sources can also be computed without sharing a sample.
    scale = StandardScaler().fit(data.pooled()[0])
    weights = model.initial(data.X.shape[1], data.classes, _TRAINING.hidden, seed)
    sizes = np.array([len(y) for _, y in data.sources], dtype=float)
    for number in range(ROUNDS):
        local = [
            model.train(weights, scale.transform(X), y, STEPS, _TRAINING, seed * 1000 + number * 10 + source)
            for source, (X, y) in enumerate(data.sources)
        ]
        weights = model.average(local, sizes / sizes.sum())
    return 100 * model.accuracy(weights, scale.transform(data.X), data.y)


def sinkhorn(
    problem: Problem, seed: int, reg_class: float, alignment: Alignment = "none", forest: bool = False
) -> float:
    """Move the pooled sources to the target by Sinkhorn transport; class-regularized if `reg_class` > 0."""
    data = Prepared(problem, alignment)
    X, y = data.pooled()
    images = data.moved(X, y, seed, reg_class)
    return data.forest(images, y, seed) if forest else data.scored(images, y, seed)


def jcpot(problem: Problem, seed: int, alignment: Alignment = "none") -> float:
    """Run joint class proportions and transport (Redko et al., AISTATS 2019; POT's), by label propagation."""
    data = Prepared(problem, alignment)
    sources, labels = [X for X, _ in data.sources], [y for _, y in data.sources]
    # POT's solver does not normalize costs, so one entropy weight would differ in effect from set to set.
    unit = np.sqrt(max(ot.dist(X, data.X).max() for X in sources))
    solver = ot.da.JCPOTTransport(reg_e=0.005, max_iter=100)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        solver.fit([X / unit for X in sources], labels, data.X / unit)
        shares = solver.transform_labels(labels)
    return 100 * float((np.nan_to_num(shares).argmax(1) == data.y).mean())


def barycentre(problem: Problem, seed: int, alignment: Alignment = "none", forest: bool = False) -> float:
    """Run Wasserstein barycenter transport (Montesuma, Mboula, ICASSP 2021).

    Every class has a separate barycenter over the sources. This is the label-aware barycenter with an
    infinite cost of mixing classes. Class-regularized Sinkhorn then moves it to the target.
    """
    data = Prepared(problem, alignment)
    rng = np.random.default_rng(seed)
    _, y = data.pooled()
    middle = np.empty((len(y), data.X.shape[1]))
    for c in range(data.classes):
        groups = [X[labels == c] for X, labels in data.sources if (labels == c).any()]
        everyone = np.concatenate(groups)
        start = rng.normal(everyone.mean(0), everyone.std(0), (int((y == c).sum()), data.X.shape[1]))
        masses = [np.full(len(group), 1 / len(group)) for group in groups]
        middle[y == c] = ot.lp.free_support_barycenter(groups, masses, start, numItermax=10)
    images = data.moved(middle, y, seed, _PLANS.reg_class)
    return data.forest(images, y, seed) if forest else data.scored(images, y, seed)


def cmda_ot(problem: Problem, seed: int, **options: object) -> float:
    """Run CMDA-OT, with its defaults unless `options` differ."""
    X, y, domain = problem.stacked()
    estimator = CMDAOT(random_state=seed, **options).fit(X, y, sample_domain=domain)  # type: ignore[arg-type]
    return 100 * float(estimator.score(problem.X, problem.y))


_BASELINES: dict[str, Method] = {
    "pooled": pooled,
    "FedAvg": fedavg,
    "Sinkhorn": partial(sinkhorn, reg_class=0.0),
    "Sinkhorn, class-regularized": partial(sinkhorn, reg_class=_PLANS.reg_class),
    "JCPOT": jcpot,
    "WBT": barycentre,
}
GROUPS: dict[str, dict[str, Method]] = {
    "main": {
        "CMDA-OT": cmda_ot,
        **_BASELINES,
        **{f"{name}, aligned": partial(each, alignment="quantiles") for name, each in _BASELINES.items()},
    },
    "ablations": {
        "CMDA-OT": cmda_ot,
        "not aligned": partial(cmda_ot, alignment="none"),
        "clusters matched to classes": partial(cmda_ot, cluster_weight=1.0),
        "no fine-tuning": partial(cmda_ot, tune_steps=0, final_steps=0),
    },
    "forests": {
        "pooled, forest": partial(pooled, forest=True),
        "Sinkhorn, class-regularized, forest": partial(sinkhorn, reg_class=_PLANS.reg_class, forest=True),
        "WBT, forest": partial(barycentre, forest=True),
    },
}
"""Methods by name. `forests` have the classifier of `mgr`'s published protocol, which cannot be averaged."""
