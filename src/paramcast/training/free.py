"""Choice of the free baseline, and of the start of updates, on devices that the base has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paramcast.errors import InputError
from paramcast.training import examples
from paramcast.training.alignment import QUERIES, LearnedAlignment
from paramcast.training.baselines import (
    STRENGTHS,
    FreeBaseline,
    MeanRemoval,
    PriorCorrection,
    ReestimatedStatistics,
    norm_layers,
)
from paramcast.training.bases import State, copied, restored_to
from paramcast.training.devices import DeviceData
from paramcast.training.model import AdaptableModel, device_of
from paramcast.training.scores import Loss, Score, primary

Lesson = tuple[State, Sequence[DeviceData]]
"""A state of the base, and devices that this state has not seen."""
Make = Callable[[Sequence[DeviceData]], FreeBaseline]
"""Makes a baseline for the present state of the base, with values learned from devices."""
MOST = 64
"""Number of devices of each lesson that baselines are compared on."""


def free_baseline(
    model: AdaptableModel,
    name: str,
    prior: Sequence[float] | None = None,
    strengths: Mapping[str, Sequence[float]] | None = None,
) -> FreeBaseline:
    """Return a free baseline or the learned alignment by its name, with the values from training."""
    found: FreeBaseline
    if name == ReestimatedStatistics.name:
        return ReestimatedStatistics()
    if name == PriorCorrection.name:
        found = PriorCorrection()
        found.prior = torch.tensor(prior)
        return found
    if name == MeanRemoval.name:
        found = MeanRemoval()
        found.restore(model.net, torch.tensor(prior))
        return found
    if name == LearnedAlignment.name:
        return LearnedAlignment(strengths or {})
    raise InputError(f"no free baseline is called {name!r}")


def free_scores(
    model: AdaptableModel,
    method: FreeBaseline,
    devices: Sequence[DeviceData],
    support: int,
    skipped: int,
    strength: float,
    score: Score,
) -> np.ndarray:
    """Score each device under a free baseline on the examples after the first `skipped`: (B,) float64."""
    at, found = device_of(model.net), []
    model.net.eval()
    with torch.no_grad():
        for device in devices:
            seen = examples.moved(examples.take(device.inputs, slice(0, support)), at)
            parts = [
                method.outputs(
                    model.net,
                    seen,
                    examples.moved(examples.take(device.inputs, slice(at_, at_ + 256)), at),
                    strength,
                )
                for at_ in range(skipped, len(device), 256)
            ]
            wanted = examples.moved(examples.take(device.labels, slice(skipped, None)), at)
            found.append(score(examples.joined(parts) if len(parts) > 1 else parts[0], wanted))
    return np.array(found, np.float64)


def choose_free(
    model: AdaptableModel,
    lessons: Sequence[Lesson],
    validation: Sequence[DeviceData],
    support: int,
    score: Score,
) -> dict[str, Any] | None:
    """Choose the free baseline and its strength; None where no baseline can be used.

    Baselines are compared on validation devices and on training devices, each under a base that has not seen
    the device: a few validation devices alone would choose by luck. What counts is the mean gain less one
    standard error. Where no baseline gains by this measure, the strength is 0, which means no adaptation.

    Args:
        model: The model. Its module has the final base's state, also afterwards.
        lessons: States of the base, each with devices that it has not seen.
        validation: Other devices, which the final base has not seen.
        support: Number of examples that devices adapt with.
        score: The score.

    Returns:
        Name and strength of the baseline, its mean score, and the values that it learned from training
        devices (`prior`).
    """
    train = [device for _, devices in lessons for device in devices]
    model.net.eval()
    with torch.no_grad():
        outputs = examples.call(model.net, _inputs(model, train[0], slice(0, 4)))
    prior = _prior(train, primary(outputs))
    makes: list[Make] = [
        *([] if support < 2 else [lambda _: ReestimatedStatistics()]),  # one example has no variance
        lambda seen: _mean_removal(model, seen),
        *([] if prior is None else [lambda _: prior]),
    ]
    made = {make: make(train) for make in makes}
    fitting = [make for make, method in made.items() if method.fits(model.net, outputs)]
    if not fitting:
        return None
    candidates = [(fitting[0], 0.0), *((make, strength) for make in fitting for strength in STRENGTHS)]
    (base, *others), _ = _compared(model, lessons, validation, support, score, candidates)
    best = int(np.argmax([0.0, *(_cautious(score.sign * (scores - base)) for scores in others)]))
    make, strength = candidates[best]
    method = made[make]
    return {
        "name": method.name,
        "strength": strength,
        "score": round(float(np.nanmean([base, *others][best])), 4),
        "prior": _learned(method),
    }


def choose_start(
    model: AdaptableModel,
    lessons: Sequence[Lesson],
    validation: Sequence[DeviceData],
    support: int,
    loss: Loss,
    score: Score,
    seed: int,
) -> dict[str, Any] | None:
    """Choose the start of updates: the best free baseline, or an alignment that is learned here.

    Args:
        model: The model. Its module has the final base's state, also afterwards. Its `summary` holds the best
            free baseline.
        lessons: States of the base, each with devices that it has not seen.
        validation: Other devices, which the final base has not seen.
        support: Number of examples that devices adapt with.
        loss: (outputs, labels) -> scalar tensor.
        score: The score.
        seed: Seed of the episodes.

    Returns:
        Name, strength and learned values; None where no baseline can be used.
    """
    free = model.fitted.summary.get("free")
    if free is None or not norm_layers(model.net) or support < 2:
        return dict(free) if free else None
    net, at, final = model.net, device_of(model.net), copied(model.net)
    places: list[int] = []

    def draw(rng: np.random.Generator) -> tuple[Any, Any, Any]:
        place = int(rng.integers(len(lessons)))
        state, devices = lessons[place]
        if places[-1:] != [place]:
            restored_to(net, state)
            places.append(place)
        device = devices[int(rng.integers(len(devices)))]
        size = max(2, min(int(support * rng.uniform(0.75, 1.25)), len(device) // 2))
        rows = rng.permutation(len(device))
        query = rows[size : size + QUERIES]
        return (
            _inputs(model, device, rows[:size]),
            _inputs(model, device, query),
            examples.moved(examples.take(device.labels, query), at),
        )

    def again(seen: Sequence[DeviceData]) -> FreeBaseline:
        if free["name"] == MeanRemoval.name:
            return _mean_removal(model, seen)
        return free_baseline(model, free["name"], free.get("prior"))

    net.eval()
    learned = LearnedAlignment.learn(net, draw, loss, seed)
    restored_to(net, final)
    candidates: list[tuple[Make, float]] = [(again, free["strength"]), (lambda _: learned, 1.0)]
    (by_free, by_learned), held = _compared(model, lessons, validation, support, score, candidates)
    gains = score.sign * (by_learned - by_free)
    # It must be better on both: bases of fewer devices may need an alignment that the final base does not.
    if _cautious(gains) <= 0 or not np.nanmean(gains[held]) > 0:
        return dict(free)
    return {
        "name": LearnedAlignment.name,
        "strength": 1.0,
        "cross_fitted": [round(float(np.nanmean(by_learned[part])), 4) for part in (~held, held)],
        "cross_fitted_free": [round(float(np.nanmean(by_free[part])), 4) for part in (~held, held)],
        "strengths": {name: list(pair) for name, pair in learned.strengths.items()},
    }


def _compared(
    model: AdaptableModel,
    lessons: Sequence[Lesson],
    validation: Sequence[DeviceData],
    support: int,
    score: Score,
    candidates: Sequence[tuple[Make, float]],
) -> tuple[list[np.ndarray], np.ndarray]:
    """Score baselines on devices that the base has not seen; the module ends in the state that it has now.

    Args:
        model: The model, with the final base's state.
        lessons: As for `choose_free`, like the next three.
        validation: See above.
        support: See above.
        score: See above.
        candidates: Baselines and their strengths.

    Returns:
        For each candidate the scores of B devices (B,) float64, and a mask (B,) of the validation devices.
    """
    final = copied(model.net)
    found: list[list[np.ndarray]] = [[] for _ in candidates]
    held: list[bool] = []
    for place, (state, devices) in enumerate([*lessons, (final, validation)]):
        restored_to(model.net, state)
        seen = [d for other, (_, own) in enumerate(lessons) if other != place for d in own] or devices
        enough = [device for device in devices if len(device) > support][:MOST]
        methods = {make: make(seen) for make, _ in candidates}
        for scores, (make, strength) in zip(found, candidates, strict=True):
            scores.append(free_scores(model, methods[make], enough, support, support, strength, score))
        held += [place == len(lessons)] * len(enough)
    restored_to(model.net, final)
    return [np.concatenate(scores) for scores in found], np.array(held, bool)


def _cautious(gains: np.ndarray) -> float:
    """Compute the mean gain of devices (B,) less one standard error; minus infinity for fewer than two."""
    known = gains[np.isfinite(gains)]
    if len(known) < 2:
        return -math.inf
    return float(known.mean() - known.std(ddof=1) / math.sqrt(len(known)))


def _mean_removal(model: AdaptableModel, devices: Sequence[DeviceData]) -> MeanRemoval:
    method = MeanRemoval()
    method.learn(model.net, [_inputs(model, device, slice(0, 64)) for device in devices])
    return method


def _prior(devices: Sequence[DeviceData], logits: Tensor) -> PriorCorrection | None:
    """Make the correction of classes' frequencies; None where labels or outputs are not those of classes."""
    labels = devices[0].labels
    of_classes = isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point()
    if not of_classes or logits.dim() != 2:
        return None
    counts = np.full(logits.shape[1], 1.0)
    for device in devices:
        wanted = device.labels.cpu().numpy()
        counts += np.bincount(wanted[wanted >= 0], minlength=len(counts))[: len(counts)] / max(1, len(wanted))
    method = PriorCorrection()
    method.prior = torch.tensor(counts / counts.sum(), dtype=torch.float32, device=logits.device)
    return method


def _learned(method: FreeBaseline) -> list[float] | None:
    """Return the values that a baseline has learned, as numbers for a file."""
    if isinstance(method, PriorCorrection):
        assert method.prior is not None
        return [float(value) for value in method.prior]
    return method.learned if isinstance(method, MeanRemoval) else None


def _inputs(model: AdaptableModel, device: DeviceData, rows: slice | np.ndarray) -> Any:
    return examples.moved(examples.take(device.inputs, rows), device_of(model.net))
