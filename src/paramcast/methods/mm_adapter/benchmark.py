"""Base and new classes, by shots and method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paramcast.methods.mm_adapter.baselines import METHODS, Fitted, Task
from paramcast.methods.mm_adapter.embedding import Embedded
from paramcast.methods.mm_adapter.fewshot import Rounding, base_new, draw_shots, harmonic_mean
from paramcast.methods.mm_adapter.fitting import Shots

SHOTS = (1, 2, 4, 8, 16)


def measure(
    data: Embedded, shots: Sequence[int], seeds: int, rounding: Rounding, step: Callable[[], Any]
) -> list[dict[str, Any]]:
    """One row a method and number of shots: accuracy in percent on base and new classes, harmonic mean.

    Every method is selected on the validation images of the base classes; test images are scored once.

    Args:
        data: The task.
        shots: Training images a class, and as many for validation.
        seeds: Number of draws of the shots, from seed 0 on.
        rounding: Of the number of base classes.
        step: Called after every fit.
    """
    base, new = base_new(len(data.names), rounding)
    rows = []
    for count in shots:
        tasks = [_task(data, base, count, seed) for seed in range(seeds)]
        for name, method in METHODS.items():
            found = []
            for task in tasks:
                found.append(_scored(method(task), data, base, new))
                step()
            rows.append({"method": name, "shots": count, **_means(found)})
    return rows


def _task(data: Embedded, base: np.ndarray, shots: int, seed: int) -> Task:
    rows = np.flatnonzero(np.isin(data.pool_y, base))
    train, validation = (rows[part] for part in draw_shots(data.pool_y[rows], shots, seed))
    parts = [_tensors(data.pool, data.pool_y, part) for part in (train, validation)]
    return Task(Shots(*parts[0], *parts[1]), torch.from_numpy(data.texts[base]), data.factor, seed)


def _tensors(images: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images[rows]), torch.from_numpy(y[rows].astype(np.int64))


def _scored(fitted: Fitted, data: Embedded, base: np.ndarray, new: np.ndarray) -> tuple[float, float | None]:
    """Accuracy in percent among the base classes, and among the new ones (None for a closed vocabulary)."""
    scores: list[float] = []
    for classes in (base, new):
        if classes is new and not fitted.open_vocabulary:
            return scores[0], None
        rows = np.flatnonzero(np.isin(data.test_y, classes))
        with torch.no_grad():
            logits = fitted.scorer(torch.from_numpy(data.test[rows]), torch.from_numpy(data.texts[classes]))
        scores.append(100 * float((classes[logits.argmax(1).numpy()] == data.test_y[rows]).mean()))
    return scores[0], scores[1]


def _means(found: Sequence[tuple[float, float | None]]) -> dict[str, float | None]:
    base = float(np.mean([b for b, _ in found]))
    known = [(b, n) for b, n in found if n is not None]
    if not known:
        return {"base": round(base, 2), "new": None, "harmonic": None}
    new = float(np.mean([n for _, n in known]))
    harmonic = float(np.mean([harmonic_mean(b, n) for b, n in known]))
    return {"base": round(base, 2), "new": round(new, 2), "harmonic": round(harmonic, 2)}
