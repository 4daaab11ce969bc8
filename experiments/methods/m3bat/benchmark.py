"""M3BAT beside the source model, CORAL and DANN, and its own ablations, with equal effort for each.

Every method is as many networks of the same kind, trained for as many steps on the same rows, and chooses
among as many strengths by the same rule, which reads no target label. The source model has nothing to choose.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import mean_absolute_error, roc_auc_score

from experiments.methods.m3bat.datasets import Pair
from experiments.methods.m3bat.skada_dann import SkadaDANN
from paramcast.errors import InputError
from paramcast.files import check_same_run
from paramcast.methods.m3bat.estimators import M3BATClassifier, M3BATRegressor
from paramcast.training.statistics import over_seeds

Estimator = M3BATClassifier | M3BATRegressor

MAIN: dict[str, Mapping[str, Any]] = {
    "source": {"alignment": "none", "branches": "one"},
    "coral": {"alignment": "coral", "branches": "one"},
    "dann": {"branches": "one"},
    "m3bat": {},
}
"""Options of the estimator; the first method is what gains are measured against. One branch is DANN."""
SKADA = "dann of skada"
ABLATIONS: dict[str, Mapping[str, Any]] = {
    "m3bat, no adaptation": {"alignment": "none"},
    "m3bat, branches by shift": {"branches": "shift"},
    "m3bat, uniform weights": {"weighting": "uniform"},
    "m3bat, one discriminator": {"discriminators": "one"},
    "m3bat, end to end": {"schedule": "end_to_end"},
}
"""One thing differs from M3BAT."""


AGAINST = ("source", "dann")


@dataclass(frozen=True)
class Score:
    """One fitted method on one pair: AUC in percent (higher is better), or MAE (lower is).

    Attributes:
        pair: Name of the pair.
        seed: Of the pair and of the fit.
        method: Name of the method.
        value: Metric on the target's other half.
        strength: What the method chose.
    """

    pair: str
    seed: int
    method: str
    value: float
    strength: float


METHODS = (*MAIN, SKADA, *ABLATIONS)


def methods_of(task: str, chosen: Sequence[str] = ()) -> list[str]:
    """Methods to compare: those that are chosen, or all; skada's deep DANN is a classifier only."""
    return [
        name for name in METHODS if (name in chosen or not chosen) and (name, task) != (SKADA, "regression")
    ]


def compare(
    pairs: Callable[[int], Iterator[Pair]],
    seeds: Sequence[int],
    steps: int,
    chosen: Sequence[str] = (),
    known: Sequence[Score] = (),
    done: Callable[[Score], Any] = lambda _: None,
) -> list[Score]:
    """Score methods on every pair and seed.

    Args:
        pairs: Seed -> pairs.
        seeds: One or more.
        steps: Of every fit.
        chosen: Names of the methods; none for all.
        known: Scores of the same run that was broken off; they are taken over.
        done: Called with every new score.
    """
    before = {(each.seed, each.pair, each.method): each for each in known}
    scores = []
    for seed in seeds:
        for pair in pairs(seed):
            for name in methods_of(pair.task, chosen):
                if (seed, pair.name, name) in before:
                    scores.append(before[seed, pair.name, name])
                    continue
                model = _model(name, pair, seed, steps)
                model.fit(pair.X, pair.y, sample_domain=pair.sample_domain)
                scores.append(Score(pair.name, seed, name, score(model, pair), model.strength_))
                done(scores[-1])
    return scores


def score(model: Any, pair: Pair) -> float:
    """Macro AUC in percent over the classes that the target has, or the mean absolute error."""
    if pair.task == "regression":
        return float(mean_absolute_error(pair.y_test, model.predict(pair.X_test)))
    probabilities = model.predict_proba(pair.X_test)
    hits = pair.y_test[:, None] == model.classes_
    scored = np.flatnonzero(hits.any(0) & ~hits.all(0))
    return 100 * float(np.mean([roc_auc_score(hits[:, i], probabilities[:, i]) for i in scored]))


def rows(data: str, task: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """A row a method: mean over pairs and seeds, paired differences to source and DANN, 95 % intervals.

    Intervals are Student's t over seeds, of each seed's mean over pairs. `worse_share` is the share of (pair,
    seed) in which the source model is better, `pairs` has the mean of every pair, `scores` everything.
    """
    values = {each.method: _of(scores, each.method) for each in scores}
    means = {name: _by_seed(scores, name) for name in values}
    return [
        {
            "data": data,
            "method": name,
            "metric": "mae" if task == "regression" else "auc",
            **over_seeds(means[name]).json(),
            **{
                f"against_{other}": over_seeds(means[name] - means[other]).json()
                for other in AGAINST
                if other in values
            },
            "worse_share": _worse_share(task, mine, values["source"]) if "source" in values else None,
            "pairs": {pair: round(value, 4) for pair, value in _by_pair(scores, name).items()},
            "scores": [_short(each) for each in scores if each.method == name],
        }
        for name, mine in values.items()
    ]


class ScoreFile:
    """Scores of a run, a line of JSON each, so that it can go on where it was broken off.

    Args:
        path: Made where it is missing. Its first line says what run it is of.
        run: Command, commit and whatever else makes a run another one.

    Attributes:
        known: The scores that were there.

    Raises:
        InputError: The file is of another run, or damaged.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path, self.known = path, list[Score]()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run) + "\n", encoding="utf-8")
        text = path.read_text(encoding="utf-8")
        # A line without its end is what a killed run was about to write.
        whole = text[: text.rfind("\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            self.known = [Score(**line) for line in lines]
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} does not hold scores of a benchmark; remove it") from error
        check_same_run(path, "scores of a run", first, run)
        if whole != text:
            path.write_text(whole, encoding="utf-8")

    def add(self, score: Score) -> None:
        """Write one more."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(score)) + "\n")


def _worse_share(task: str, mine: np.ndarray, source: np.ndarray) -> float:
    worse = mine > source if task == "regression" else mine < source
    return round(float(worse.mean()), 4)


def _model(name: str, pair: Pair, seed: int, steps: int) -> Any:
    if name == SKADA:
        return SkadaDANN(steps=steps, random_state=seed)
    kind: type[Estimator] = M3BATClassifier if pair.task == "classification" else M3BATRegressor
    options = {**MAIN, **ABLATIONS}[name]
    return kind(modalities=pair.modalities, steps=steps, random_state=seed, **options)


def _short(score: Score) -> dict[str, Any]:
    return {key: value for key, value in asdict(score).items() if key != "method"} | {
        "value": round(score.value, 4)
    }


def _of(scores: Sequence[Score], method: str) -> np.ndarray:
    return np.array([each.value for each in scores if each.method == method])


def _by_seed(scores: Sequence[Score], method: str) -> np.ndarray:
    """(S,): the mean over pairs of each seed."""
    seeds = dict.fromkeys(each.seed for each in scores)
    return np.array([_of([each for each in scores if each.seed == seed], method).mean() for seed in seeds])


def _by_pair(scores: Sequence[Score], method: str) -> dict[str, float]:
    pairs = dict.fromkeys(each.pair for each in scores)
    return {name: float(_of([each for each in scores if each.pair == name], method).mean()) for name in pairs}
