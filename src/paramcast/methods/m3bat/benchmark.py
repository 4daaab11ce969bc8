"""M3BAT beside the source model, CORAL and DANN, and its own ablations, with equal effort for each.

Every method is the same network, trained for as many steps, and chooses among as many settings by the same
rule, which reads no target label. Ablations take over the setting that M3BAT chose: one thing differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import mean_absolute_error, roc_auc_score

from paramcast.methods.m3bat.datasets import Pair
from paramcast.methods.m3bat.estimators import M3BATClassifier, M3BATRegressor
from paramcast.methods.m3bat.selection import Estimator, select
from paramcast.training.statistics import interval

_STRENGTHS = ({"strength": 0.1}, {"strength": 0.3}, {"strength": 1.0})


@dataclass(frozen=True)
class Method:
    """What is compared.

    Attributes:
        options: Of the estimator.
        candidates: Settings that it chooses from; empty for an ablation, which uses the setting of M3BAT.
    """

    options: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]] = ()


METHODS = {
    "source": Method(
        {"alignment": "none", "branches": "one"}, [{"weight_decay": decay} for decay in (1e-3, 1e-2, 1e-1)]
    ),
    "coral": Method(
        {"alignment": "coral", "branches": "one"}, [{"strength": strength} for strength in (1.0, 10.0, 100.0)]
    ),
    "dann": Method({"branches": "one"}, _STRENGTHS),
    "m3bat": Method({"branches": "modality"}, _STRENGTHS),
    "m3bat, branches by shift": Method({"branches": "shift"}),
    "m3bat, uniform weights": Method({"branches": "modality", "weighting": "uniform"}),
    "m3bat, one discriminator": Method({"branches": "modality", "discriminators": "one"}),
    "m3bat, end to end": Method({"branches": "modality", "schedule": "end_to_end"}),
}
"""M3BAT stands before its ablations; the first method is what gains are measured against."""


@dataclass(frozen=True)
class Score:
    """One fitted method on one pair: AUC in percent (higher is better), or MAE (lower is)."""

    pair: str
    seed: int
    method: str
    options: Mapping[str, Any]
    value: float


def compare(
    pairs: Callable[[int], Iterator[Pair]], seeds: int, steps: int, done: Callable[[], Any] = lambda: None
) -> list[Score]:
    """Score every method on every pair and seed.

    Args:
        pairs: Seed -> pairs.
        seeds: How many, >= 1; from 0 on.
        steps: Of every fit.
        done: Called after every method.
    """
    scores = []
    for seed in range(seeds):
        for pair in pairs(seed):
            inherited: Mapping[str, Any] = {}
            for name, method in METHODS.items():
                model, options = _fit(method, inherited, pair, seed, steps)
                inherited = options if name == "m3bat" else inherited
                scores.append(Score(pair.name, seed, name, options, score(model, pair)))
                done()
    return scores


def score(model: Estimator, pair: Pair) -> float:
    """Macro AUC in percent over the classes that the target has, or the mean absolute error."""
    if isinstance(model, M3BATRegressor):
        return float(mean_absolute_error(pair.y_test, model.predict(pair.X_test)))
    probabilities = model.predict_proba(pair.X_test)
    hits = pair.y_test[:, None] == model.classes_
    scored = np.flatnonzero(hits.any(0) & ~hits.all(0))
    return 100 * float(np.mean([roc_auc_score(hits[:, i], probabilities[:, i]) for i in scored]))


def rows(data: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """A row a method: mean over pairs and seeds, paired difference to the first method, 95 % intervals.

    Intervals are bootstrapped over (pair, seed); `pairs` has the mean of every pair.
    """
    metric = "mae" if data in ("diabetes", "shifted") else "auc"
    values = {name: _of(scores, name) for name in METHODS}
    first = values[next(iter(METHODS))]
    return [
        {
            "data": data,
            "method": name,
            "metric": metric,
            **interval(mine).json(),
            "against_source": interval(mine - first).json(),
            "worse_share": round(float(np.mean((mine > first) if metric == "mae" else (mine < first))), 4),
            "pairs": {pair: round(value, 4) for pair, value in _by_pair(scores, name).items()},
            "chosen": [dict(each.options) for each in scores if each.method == name],
        }
        for name, mine in values.items()
    ]


def _fit(
    method: Method, inherited: Mapping[str, Any], pair: Pair, seed: int, steps: int
) -> tuple[Estimator, Mapping[str, Any]]:
    kind: type[Estimator] = M3BATClassifier if pair.task == "classification" else M3BATRegressor
    estimator = kind(modalities=pair.modalities, steps=steps, random_state=seed, **method.options)
    if method.candidates:
        selection = select(estimator, method.candidates, pair.X, pair.y, pair.sample_domain, seed)
        return selection.estimator, selection.chosen.options
    estimator.set_params(**inherited)
    return estimator.fit(pair.X, pair.y, sample_domain=pair.sample_domain), inherited


def _of(scores: Sequence[Score], method: str) -> np.ndarray:
    return np.array([each.value for each in scores if each.method == method])


def _by_pair(scores: Sequence[Score], method: str) -> dict[str, float]:
    names = dict.fromkeys(each.pair for each in scores)
    return {name: float(_of([each for each in scores if each.pair == name], method).mean()) for name in names}
