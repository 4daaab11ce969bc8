"""M3BAT compared with the source model, CORAL, DANN and its ablations, with equal effort for each.

Every method has the same number of networks of the same kind, trained for the same number of steps on the
same rows. It chooses among the same number of strengths by the same rule, which reads no target label. The
source model has no choice.
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
"""Options of the estimator. Gains are measured against the first method. One branch is DANN."""
SKADA = "dann of skada"
ABLATIONS: dict[str, Mapping[str, Any]] = {
    "m3bat, no adaptation": {"alignment": "none"},
    "m3bat, branches by shift": {"branches": "shift"},
    "m3bat, uniform weights": {"weighting": "uniform"},
    "m3bat, one discriminator": {"discriminators": "one"},
    "m3bat, end to end": {"schedule": "end_to_end"},
}
"""Each differs from M3BAT in one option."""


AGAINST = ("source", "dann")


@dataclass(frozen=True)
class Score:
    """Score of one fitted method on one pair: AUC in percent (higher is better), or MAE (lower is better).

    Attributes:
        pair: Name of the pair.
        seed: Seed of the pair and of the fit.
        method: Name of the method.
        value: Metric on the target's other half.
        strength: Strength that the method chose.
    """

    pair: str
    seed: int
    method: str
    value: float
    strength: float


METHODS = (*MAIN, SKADA, *ABLATIONS)


def methods_of(task: str, chosen: Sequence[str] = ()) -> list[str]:
    """List the methods to compare: the chosen ones, or all; skada's deep DANN is a classifier only."""
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
        steps: Steps of every fit.
        chosen: Names of the methods; none for all.
        known: Scores of an interrupted run with the same options; they are reused.
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
    """Compute the macro AUC in percent over the target's classes, or the mean absolute error."""
    if pair.task == "regression":
        return float(mean_absolute_error(pair.y_test, model.predict(pair.X_test)))
    probabilities = model.predict_proba(pair.X_test)
    hits = pair.y_test[:, None] == model.classes_
    scored = np.flatnonzero(hits.any(0) & ~hits.all(0))
    return 100 * float(np.mean([roc_auc_score(hits[:, i], probabilities[:, i]) for i in scored]))


def rows(data: str, task: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Make a row for each method: mean over pairs and seeds, paired differences to source and DANN.

    Intervals are 95 %, Student's t over seeds, of each seed's mean over pairs. `worse_share` is the share of
    (pair, seed) in which the source model is better, `pairs` has the mean of every pair, `scores` everything.
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
    """Scores of a run, one line of JSON each, so that an interrupted run can be resumed.

    Args:
        path: Created if it is missing. Its first line describes the run.
        run: Command, commit and everything else that distinguishes runs.

    Attributes:
        known: The scores that were in the file.

    Raises:
        InputError: The file is of another run, or damaged.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path, self.known = path, list[Score]()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run) + "\n", encoding="utf-8")
        text = path.read_text(encoding="utf-8")
        # A killed run may leave a line without its end.
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
        """Append a score."""
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
    """Compute the mean over pairs of each seed, (S,)."""
    seeds = dict.fromkeys(each.seed for each in scores)
    return np.array([_of([each for each in scores if each.seed == seed], method).mean() for seed in seeds])


def _by_pair(scores: Sequence[Score], method: str) -> dict[str, float]:
    pairs = dict.fromkeys(each.pair for each in scores)
    return {name: float(_of([each for each in scores if each.pair == name], method).mean()) for name in pairs}
