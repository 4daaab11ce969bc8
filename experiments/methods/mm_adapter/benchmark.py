"""Accuracy on base and new classes, by shots and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.methods.mm_adapter.baselines import Fitted, Task
from experiments.methods.mm_adapter.embedding import Embedded
from experiments.methods.mm_adapter.fewshot import Rounding, base_new, halves, harmonic_mean
from paramcast.methods.mm_adapter.fitting import Shots, fitted_scale
from paramcast.methods.mm_adapter.inputs import draw_shots
from paramcast.training.statistics import over_seeds

SHOTS = (1, 2, 4, 8, 16)
FIGURES = ("base", "new", "harmonic")


def measure(
    data: Embedded,
    shots: Sequence[int],
    seeds: int,
    rounding: Rounding,
    methods: Mapping[str, Callable[[Task], Fitted]],
    step: Callable[[], Any] = lambda: None,
) -> list[dict[str, Any]]:
    """Make a row for each method and number of shots: accuracy on base and new classes, harmonic mean.

    Accuracies are in percent. Every method is selected on the validation images of the base classes; test
    images are scored once.

    Args:
        data: The task.
        shots: Training images of a class; the number for validation is the same.
        seeds: Number of seeds, from 0 on. Each draws the half of the images that is scored, the shots, and
            the networks.
        rounding: Rounding of the number of base classes.
        methods: Name -> method.
        step: Called after every method and seed.

    Returns:
        `base`, `new` and `harmonic` have `mean`, `low`, `high` (see `over_seeds`) and `seeds`, the value of
        each seed; `new` and `harmonic` are None for a method with a closed vocabulary.
    """
    base, new = base_new(len(data.names), rounding)
    rows = []
    for count in shots:
        drawn = [_draw(data, base, count, seed) for seed in range(seeds)]
        for name, method in methods.items():
            found = []
            for task, test in drawn:
                found.append(_scored(method(task), data, test, base, new))
                step()
            columns = zip(FIGURES, zip(*found, strict=True), strict=True)
            rows.append({"method": name, "shots": count} | {key: _summary(each) for key, each in columns})
    return rows


def _summary(values: Sequence[float | None]) -> dict[str, Any] | None:
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None
    found = {key: round(value, 2) for key, value in over_seeds(known).json().items()}
    return found | {"seeds": known.round(2).tolist()}


def _draw(data: Embedded, base: np.ndarray, shots: int, seed: int) -> tuple[Task, np.ndarray]:
    """Draw the input of the methods, and the rows of the images that are scored."""
    pool, test = halves(data.y, seed)
    pool = pool[np.isin(data.y[pool], base)]
    train, validation = (pool[part] for part in draw_shots(data.y[pool], shots, seed))
    texts = torch.from_numpy(data.texts[base])
    parts = _images(data, train) + _images(data, validation)
    scale = fitted_scale(parts[0] @ texts.T, parts[1])
    return Task(Shots(*parts), texts, scale, seed), test


def _images(data: Embedded, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.images[rows]), torch.from_numpy(data.y[rows].astype(np.int64))


def _scored(
    fitted: Fitted, data: Embedded, test: np.ndarray, base: np.ndarray, new: np.ndarray
) -> tuple[float, float | None, float | None]:
    """Compute accuracy in percent among base classes, among new classes, and their harmonic mean."""
    on_base = _accuracy(fitted, data, test, base)
    if not fitted.open_vocabulary:
        return on_base, None, None
    on_new = _accuracy(fitted, data, test, new)
    return on_base, on_new, harmonic_mean(on_base, on_new)


def _accuracy(fitted: Fitted, data: Embedded, test: np.ndarray, classes: np.ndarray) -> float:
    rows = test[np.isin(data.y[test], classes)]
    with torch.no_grad():
        logits = fitted.scorer(torch.from_numpy(data.images[rows]), torch.from_numpy(data.texts[classes]))
    return 100 * float((classes[logits.argmax(1).numpy()] == data.y[rows]).mean())
