"""Evaluation with controls, which show whether a gain comes from adaptation.

A hypernetwork that is conditioned on what it is scored on is only a bigger model. So every report shows the
same devices under several controls: no update (`base`), one update for all devices (`constant`), the update
of another device (`shuffled`), the device's own update (`own`), the update of a hypernetwork that knows the
true domain (`oracle`, an upper reference), and the best free baseline (`best_free`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from paramcast.errors import InputError
from paramcast.protocol.limits import MAX_CLIPS
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
from paramcast.training.controls import Metric, Result, derangement
from paramcast.training.devices import DeviceData, check_devices
from paramcast.training.model import AdaptableModel, device_of, without_gradients
from paramcast.training.report import Report
from paramcast.training.scores import Loss, Score, chosen_score, primary
from paramcast.training.scoring import Contexts, scores_of, updates

REUSE = (1, 10, 100, 1000)
"""Numbers of queries that use one update, for the bytes per query in the cost ledger."""


def evaluate(
    model: AdaptableModel, devices: Sequence[DeviceData], support: int | Sequence[int] = 8, *, seed: int = 0
) -> Report:
    """Adapt each device with its first examples, without labels, and score it on the others.

    Args:
        model: A fitted model.
        devices: Devices that neither training nor validation has seen; their examples stay in their order.
        support: Number of examples that a device adapts with; several numbers give one row each. A device is
            scored on the examples after the largest number, so that all rows have the same query examples.
        seed: Decides which other device's update the control `shuffled` uses.

    Raises:
        InputError: Fewer than two devices, or a device with no example left to score.
    """
    sizes = sorted({support} if isinstance(support, int) else set(support))
    if not sizes or sizes[0] < 1 or sizes[-1] > MAX_CLIPS:
        raise InputError(f"support must be 1 to {MAX_CLIPS} examples")
    check_devices(devices, sizes[-1] + 1, "test")
    if len(devices) < 2:
        raise InputError(
            "at least two test devices are needed: the control 'shuffled' uses another device's update"
        )
    score = _score(model, devices[0])
    truths = _truths(model, devices)
    scorer = _Scorer(model, devices, sizes[-1], score)
    fixed = {
        "base": scorer.scores(None),
        "constant": scorer.scores(updates(model, devices, 1, "constant"), "constant"),
    }
    if truths is not None:
        fixed["oracle"] = scorer.scores(updates(model, devices, 1, "truth", truths=truths), "truth")
    contexts = Contexts(model)
    order = derangement(len(devices), seed)
    free = model.fitted.summary.get("free")
    results, costs = [], []
    for size in sizes:
        own = updates(model, devices, size, "support", contexts, gated=True)
        ungated = updates(model, devices, size, "support", contexts)
        values = fixed | {
            "own": scorer.scores(own),
            "shuffled": scorer.scores({name: value[order] for name, value in ungated.items()}),
            "ungated": scorer.scores(ungated),
        }
        if model.fitted.start is not None:
            base = model.hypernet.adapter.base_values()
            alone = {
                name: base[name].expand_as(value) if name in base else value
                for name, value in ungated.items()
            }
            values["start"] = scorer.scores(alone)
        if free:
            method = free_baseline(model, free["name"], free.get("prior"))
            values["best_free"] = free_scores(
                model, method, devices, size, sizes[-1], free["strength"], score
            )
        results.append(
            Result(Metric(score.name), size, tuple(d.id for d in devices), values, score.higher_is_better)
        )
        costs.append(_costs(model, devices, size))
    return Report(tuple(results), tuple(costs), model.fitted.summary, seed)


class _Scorer:
    """Scores the same query examples of the same devices under different updates."""

    def __init__(
        self, model: AdaptableModel, devices: Sequence[DeviceData], skipped: int, score: Score
    ) -> None:
        self._model, self._devices, self._skipped, self._score = model, devices, skipped, score

    def scores(self, made: dict[str, torch.Tensor] | None, condition: str = "support") -> np.ndarray:
        return scores_of(self._model, self._devices, made, self._skipped, self._score, condition)


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
    train: Sequence[DeviceData],
    validation: Sequence[DeviceData],
    support: int,
    score: Score,
) -> dict[str, Any] | None:
    """Choose the free baseline and its strength on validation devices; None where no baseline can be used.

    Returns:
        Name, strength and validation score of the best baseline, and the values that it learned from training
        devices (`prior`).
    """
    at = device_of(model.net)
    sample = examples.moved(examples.take(train[0].inputs, slice(0, 4)), at)
    model.net.eval()
    with torch.no_grad():
        outputs = examples.call(model.net, sample)
    methods: list[tuple[FreeBaseline, list[float] | None]] = [(ReestimatedStatistics(), None)]
    mean = MeanRemoval()
    mean.learn(model.net, [examples.moved(examples.take(d.inputs, slice(0, 64)), at) for d in train])
    if mean.fits(model.net, outputs):
        methods.append((mean, mean.learned))
    made = primary(outputs)
    labels = train[0].labels
    if (
        made.dim() == 2
        and isinstance(labels, torch.Tensor)
        and labels.dim() == 1
        and not labels.is_floating_point()
    ):
        counts = np.full(made.shape[1], 1.0)
        for device in train:
            wanted = device.labels.cpu().numpy()
            counts += np.bincount(wanted[wanted >= 0], minlength=len(counts))[: len(counts)] / max(
                1, len(wanted)
            )
        prior = PriorCorrection()
        prior.prior = torch.tensor(counts / counts.sum(), dtype=torch.float32, device=at)
        methods.append((prior, prior.prior.tolist()))
    best: dict[str, Any] | None = None
    for method, learned in methods:
        if not method.fits(model.net, outputs) or (method.name == ReestimatedStatistics.name and support < 2):
            continue
        for strength in STRENGTHS if best else (0.0, *STRENGTHS):  # with strength 0 nothing changes
            value = float(
                np.nanmean(free_scores(model, method, validation, support, support, strength, score))
            )
            if best is None or score.sign * value > score.sign * best["validation"]:
                best = {
                    "name": method.name,
                    "strength": strength,
                    "validation": round(value, 4),
                    "prior": learned,
                }
    return best


def choose_start(
    model: AdaptableModel,
    lessons: Sequence[tuple[dict[str, torch.Tensor], Sequence[DeviceData]]],
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
    net, at = model.net, device_of(model.net)
    final = {name: value.detach().clone() for name, value in net.state_dict().items()}
    places: list[int] = []

    def put(state: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in net.state_dict().items():
                value.copy_(state[name])

    def draw(rng: np.random.Generator) -> tuple[Any, Any, Any]:
        place = int(rng.integers(len(lessons)))
        state, devices = lessons[place]
        if places[-1:] != [place]:
            put(state)
            places.append(place)
        device = devices[int(rng.integers(len(devices)))]
        size = max(2, min(int(support * rng.uniform(0.75, 1.25)), len(device) // 2))
        rows = rng.permutation(len(device))
        query = rows[size : size + QUERIES]
        support_inputs, query_inputs = (examples.take(device.inputs, each) for each in (rows[:size], query))
        return (
            examples.moved(support_inputs, at),
            examples.moved(query_inputs, at),
            examples.moved(examples.take(device.labels, query), at),
        )

    net.eval()
    learned = LearnedAlignment.learn(net, draw, loss, seed)

    def judged(make: Callable[[], FreeBaseline], strength: float) -> tuple[float, float]:
        """Score on devices of the lessons and on validation devices, under bases that have not seen them."""
        found = []
        for state, devices in [*lessons, (final, validation)]:
            put(state)
            enough = [device for device in devices if len(device) > support]
            found.append(free_scores(model, make(), enough, support, support, strength, score))
        return float(np.nanmean(np.concatenate(found[:-1]))), float(np.nanmean(found[-1]))

    def again() -> FreeBaseline:
        if free["name"] != MeanRemoval.name:
            return free_baseline(model, free["name"], free.get("prior"))
        mean = MeanRemoval()
        seen = [device for _, devices in lessons for device in devices]
        batches = [examples.moved(examples.take(d.inputs, slice(0, 64)), at) for d in seen]
        mean.learn(net, batches)
        return mean

    by_free, by_learned = judged(again, free["strength"]), judged(lambda: learned, 1.0)
    put(final)
    # It must be better on both: bases of fewer devices may need an alignment that the final base does not.
    if any(score.sign * own <= score.sign * other for own, other in zip(by_learned, by_free, strict=True)):
        return dict(free)
    return {
        "name": LearnedAlignment.name,
        "strength": 1.0,
        "cross_fitted": [round(value, 4) for value in by_learned],
        "cross_fitted_free": [round(value, 4) for value in by_free],
        "strengths": {name: list(pair) for name, pair in learned.strengths.items()},
    }


def _score(model: AdaptableModel, device: DeviceData) -> Score:
    if isinstance(model.score, Score):
        return model.score
    at = device_of(model.net)
    model.net.eval()
    with torch.no_grad():
        outputs = examples.call(model.net, examples.moved(examples.take(device.inputs, slice(0, 4)), at))
    return chosen_score(model.score, outputs, examples.take(device.labels, slice(0, 4)))


def _truths(model: AdaptableModel, devices: Sequence[DeviceData]) -> dict[str, np.ndarray] | None:
    """Return the true domains in the form that the oracle was trained on; None where they are unknown."""
    fitted = model.fitted
    if "truth" not in fitted.hypernets or any(device.domain is None for device in devices):
        return None
    if not fitted.domains:
        return {device.id: np.asarray(device.domain, np.float32).reshape(-1) for device in devices}
    place = {name: i for i, name in enumerate(fitted.domains)}
    if any(str(device.domain) not in place for device in devices):
        return None  # the oracle does not know a domain that training did not have
    return {d.id: np.eye(len(place), dtype=np.float32)[place[str(d.domain)]] for d in devices}


def _costs(model: AdaptableModel, devices: Sequence[DeviceData], support: int) -> dict[str, Any]:
    """Measure the costs of one adaptation: bytes up and down, milliseconds, multiplications."""
    from torch.utils.flop_counter import FlopCounterMode

    from paramcast.protocol import Package, make_key, seal

    context = model.context_of(devices[0], slice(0, support))
    started = time.perf_counter()
    made = model.hypernet.generate(model.inputs([context]))
    milliseconds = 1e3 * (time.perf_counter() - started)
    tensors = {name: np.ascontiguousarray(value[0].cpu().numpy(), np.float32) for name, value in made.items()}
    update = Package(devices[0].id, "0" * 64, 1, 2**31, model.hypernet.adapter.name, "int4", tensors, 2**30)
    asked = model.request(devices[0].id, context, update.model)
    up, down = len(asked.encode()), len(seal(update, make_key()))
    rows = examples.moved(examples.take(devices[0].inputs, slice(0, 1)), device_of(model.net))
    # torch's counter expects gradients of parameters that require them, and of their views, which have none.
    with torch.no_grad(), without_gradients(model.net), FlopCounterMode(display=False) as counted:
        examples.call(model.net, rows)
    return {
        "labels": 0,
        "bytes_up": up,
        "bytes_down": down,
        "bytes_per_query": {str(n): round((up + down) / n, 2) for n in REUSE},
        "cloud_ms": round(milliseconds, 3),
        "device_macs_per_query": counted.get_total_flops() // 2,
        "leaves_the_device": f"{support} x {model.fitted.uplink.matrix.shape[1]} numbers in int8",
    }
