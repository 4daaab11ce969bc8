"""Pairs of domains for the benchmark; real data are read in place and never copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.methods.m3bat.makers import Shifted, make_shifted, make_shifted_windows
from paramcast.errors import InputError, MissingExtraError
from paramcast.methods.m3bat.domains import Task
from paramcast.methods.m3bat.shift import summarize_windows

WINDOW, STRIDE = 100, 100  # samples: 2 s at 50 Hz, without overlap
_WISDM_COLUMNS = 43
_FOLDS = 3
_ROWS = 600  # rows of each domain of made data
SHIFTS: Mapping[str, dict[str, Any]] = {
    "offset": {"offset": 1.5, "gain": 1.0},
    "gain": {"offset": 0.0, "gain": 2.0},
    "both": {"offset": 1.5, "gain": 1.5},
    "turned": {"offset": 0.0, "gain": 1.0, "angle": 40.0},
}
"""Shifts of the made tables: arguments of `make_shifted`."""
WINDOW_SHIFTS: Mapping[str, dict[str, Any]] = {
    "offset": {"offset": 1.0, "gain": 1.0},
    "gain": {"offset": 0.0, "gain": 2.0},
    "both": {"offset": 1.0, "gain": 1.5},
    "turned": {"offset": 0.0, "gain": 1.0, "angle": 60.0},
}
"""Shifts of the made windows: arguments of `make_shifted_windows`."""


@dataclass(frozen=True)
class Pair:
    """Source, and a target with one half for adaptation and the other half for the score.

    Attributes:
        name: Name of the pair.
        task: Classification or regression.
        X: (N, F) or (N, T, C) float64: source rows and the target rows for adaptation, without labels.
        y: (N,) labels, NaN or -1 at target rows.
        sample_domain: (N,) positive for source (a number for each person if persons are known), negative for
            target.
        X_test: (M, F) or (M, T, C) target rows that training never uses.
        y_test: (M,) their labels.
        modalities: Name -> columns or channels.
    """

    name: str
    task: Task
    X: np.ndarray
    y: np.ndarray
    sample_domain: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    modalities: Mapping[str, Sequence[int]]


def wisdm_pairs(path: Path, seed: int) -> Iterator[Pair]:
    """Yield pairs with unseen users: the 36 users in three random folds, each fold once the target.

    The file holds one sensor and no ages. Modalities are its kinds of features: the distributions of the
    three axes, and the summary statistics.
    """
    X, y, users = read_wisdm(path)
    modalities = {
        "x distribution": list(range(10)),
        "y distribution": list(range(10, 20)),
        "z distribution": list(range(20, 30)),
        "statistics": list(range(30, _WISDM_COLUMNS)),
    }
    rows = np.arange(len(X))
    for number, fold in enumerate(_folds(users, _FOLDS, seed)):
        target = np.isin(users, fold)
        yield _pair(f"users {number}", "classification", X, y, users, target, rows, modalities, seed)


def seglearn_pairs(seed: int) -> Iterator[Pair]:
    """Yield watch recordings as raw windows: right -> left, left -> right, two folds of unseen people.

    The seed draws the folds. The target's halves share no recording.
    """
    X, y, people, right, recordings = read_seglearn()
    modalities = {"accelerometer": [0, 1, 2], "gyroscope": [3, 4, 5]}
    splits = {"right to left": ~right, "left to right": right}
    splits |= {f"people {i}": np.isin(people, fold) for i, fold in enumerate(_folds(people, 2, seed))}
    for name, target in splits.items():
        yield _pair(name, "classification", X, y, people, target, recordings, modalities, seed)


def diabetes_pairs(seed: int) -> Iterator[Pair]:
    """Yield disease progression of 442 patients (Efron et al., 2004, in scikit-learn): by age, by body mass.

    The column that splits them is left out of X.
    """
    from sklearn.datasets import load_diabetes

    raw = load_diabetes(scaled=False)
    kinds = {"age": "person", "sex": "person", "bmi": "body", "bp": "body"}
    for column, (low, high) in {"age": ("young", "old"), "bmi": ("lean", "heavy")}.items():
        split = raw.feature_names.index(column)
        upper = raw.data[:, split] > np.median(raw.data[:, split])
        names = [name for name in raw.feature_names if name != column]
        X = np.delete(raw.data, split, axis=1)
        modalities: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            modalities.setdefault(kinds.get(name, "blood"), []).append(index)
        rows = np.arange(len(X))
        for name, target in {f"{low} to {high}": upper, f"{high} to {low}": ~upper}.items():
            yield _pair(name, "regression", X, raw.target, np.ones(len(X)), target, rows, modalities, seed)


def watch_table_pairs(seed: int) -> Iterator[Pair]:
    """Yield the pairs of `seglearn_pairs` as tables: mean and deviation of every channel over a window."""
    for pair in seglearn_pairs(seed):
        channels = pair.X.shape[2]
        modalities = {
            name: [*columns, *(channels + column for column in columns)]
            for name, columns in pair.modalities.items()
        }
        X, X_test = summarize_windows(pair.X), summarize_windows(pair.X_test)
        yield replace(pair, X=X, X_test=X_test, modalities=modalities)


def shifted_pairs(seed: int, task: Task = "regression") -> Iterator[Pair]:
    """Yield made data with known truth: one modality of two has another offset, gain, both, or is turned."""
    for name, shift in SHIFTS.items():
        yield _made_pair(name, task, make_shifted(rows=_ROWS, task=task, seed=seed, **shift), seed)


def shifted_window_pairs(seed: int) -> Iterator[Pair]:
    """Yield made raw windows of six motions with known truth; the name is the accelerometer's shift."""
    for name, shift in WINDOW_SHIFTS.items():
        yield _made_pair(name, "classification", make_shifted_windows(_ROWS, seed=seed, **shift), seed)


def _made_pair(name: str, task: Task, made: Shifted, seed: int) -> Pair:
    rows = np.arange(len(made.X))
    target = made.sample_domain < 0
    return _pair(name, task, made.X, made.y, np.ones(len(rows)), target, rows, made.modalities, seed)


def read_wisdm(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read WISDM v1.1's transformed ARFF file.

    A missing time between peaks ('?') becomes 0: no peaks were found.

    Returns:
        X (N, 43) float64, y (N,) int64 activity in alphabetical order, users (N,) int64.

    Raises:
        InputError: The file is missing, or a line has the wrong form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; give WISDM's transformed .arff"
        ) from error
    start = next((number for number, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise InputError(f"{path} has no @data line: give WISDM's transformed .arff")
    rows = []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        try:
            numbers = [0.0 if cell == "?" else float(cell) for cell in cells[1:-1]]
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if len(numbers) != _WISDM_COLUMNS + 1:
            raise InputError(f"{path}, line {number}: {len(cells)} cells instead of {_WISDM_COLUMNS + 3}")
        rows.append((numbers, cells[-1]))
    table = np.array([numbers for numbers, _ in rows])
    _, y = np.unique([label for _, label in rows], return_inverse=True)
    return table[:, 1:], y.astype(np.int64), table[:, 0].astype(np.int64)


def read_seglearn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read seglearn's 140 watch recordings of 7 exercises, cut into windows.

    Returns:
        X (N, WINDOW, 6) float64, y (N,) int64, people (N,) from 1, right side (N,) bool, recording (N,).

    Raises:
        MissingExtraError: seglearn is not installed.
    """
    try:
        from seglearn.datasets import load_watch
    except ModuleNotFoundError as error:
        raise MissingExtraError("the watch recordings", "methods") from error
    data = load_watch()
    starts = [range(0, len(each) - WINDOW + 1, STRIDE) for each in data["X"]]
    counts = [len(each) for each in starts]
    windows = [
        each[start : start + WINDOW]
        for each, places in zip(data["X"], starts, strict=True)
        for start in places
    ]
    y, people, side, recording = (
        np.repeat(np.asarray(values).astype(np.int64), counts)
        for values in (data["y"], data["subject"], data["side"], np.arange(len(counts)))
    )
    return np.stack(windows), y, people, side == 1, recording


SETS: dict[str, Callable[[int], Iterator[Pair]]] = {
    "shifted": shifted_pairs,
    "shifted-classes": partial(shifted_pairs, task="classification"),
    "shifted-windows": shifted_window_pairs,
    "diabetes": diabetes_pairs,
    "seglearn": seglearn_pairs,
    "seglearn-table": watch_table_pairs,
}
"""Sets that need no file."""


def _folds(groups: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(seed).permutation(np.unique(groups)), count)


def _pair(
    name: str,
    task: Task,
    X: np.ndarray,
    y: np.ndarray,
    domains: np.ndarray,
    target: np.ndarray,
    units: np.ndarray,
    modalities: Mapping[str, Sequence[int]],
    seed: int,
) -> Pair:
    """Split the target into two halves without reading labels; rows of one unit stay together.

    Args:
        name: Name of the pair.
        task: Classification or regression.
        X: (N, ...) rows of both domains.
        y: (N,) labels.
        domains: (N,) domain labels >= 1, made negative at target rows.
        target: (N,) bool.
        units: (N,) rows with the same value stay together; row numbers if every row is a unit.
        modalities: Name -> columns or channels.
        seed: Seed of the halves.
    """
    drawn = np.random.default_rng(seed).permutation(np.unique(units[target]))
    scored = target & np.isin(units, drawn[: len(drawn) // 2])
    kept = ~scored
    hidden = y.astype(np.float64) if task == "regression" else y.copy()
    hidden[target] = np.nan if task == "regression" else -1
    signed = np.where(target, -domains, domains).astype(np.int64)
    return Pair(name, task, X[kept], hidden[kept], signed[kept], X[scored], y[scored], modalities)
