"""Evaluation with controls, which show whether a gain comes from adaptation.

A hypernetwork that is conditioned on what it is scored on is only a bigger model. So every report shows the
same devices under several controls: no update (`base`), one update for all devices (`constant`), the update
of another device (`shuffled`), the device's own update (`own`), the update of a hypernetwork that knows the
true domain (`oracle`, an upper reference), and the best free baseline (`best_free`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from paramcast.errors import InputError
from paramcast.protocol.limits import MAX_CLIPS
from paramcast.training import examples
from paramcast.training.controls import Metric, Result, derangement
from paramcast.training.devices import DeviceData, check_devices
from paramcast.training.free import free_baseline, free_scores
from paramcast.training.model import AdaptableModel, device_of, without_gradients
from paramcast.training.report import Report
from paramcast.training.scores import Score, chosen_score
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
