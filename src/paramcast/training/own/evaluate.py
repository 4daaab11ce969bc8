"""Controls of an own model's adaptation, on devices that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from paramcast.errors import InputError
from paramcast.hypernet.forms import FormHypernetwork
from paramcast.training.controls import CONDITIONS, Metric, Result, derangement
from paramcast.training.own.devices import OwnDevice, check_devices
from paramcast.training.own.model import OwnModel
from paramcast.video.training.episodes import one_of

Score = Callable[[Tensor, Tensor], float]


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Percent of rows of outputs (N, C) whose largest entry is at their label (N,)."""
    return 100 * float((outputs.argmax(-1) == labels).float().mean())


def evaluate_own(
    model: OwnModel,
    devices: Sequence[OwnDevice],
    *,
    support: int = 8,
    seed: int = 0,
    score: Score = accuracy,
    metric: str = "accuracy",
) -> Result:
    """Adapt each device with its first `support` examples, without labels, and score it on the others.

    Args:
        model: Trained by `train_own`.
        devices: None of which training or validation has seen.
        support: Examples a device.
        seed: Decides whose package is handed to whom in the control `shuffled`.
        score: Of outputs and labels; higher is better, in percent if shares are to mean what they say.
        metric: What it is called.

    Raises:
        InputError: Fewer than two devices, or one with nothing left to be scored on.
    """
    check_devices(devices, support + 1)
    if len(devices) < 2:
        raise InputError("the control 'shuffled' needs two devices at least")
    own, order = packages(model, devices, support), derangement(len(devices), seed)
    made = {
        "base": None,
        "constant": packages(model, devices, support, "constant"),
        "shuffled": {name: value[order] for name, value in own.items()},
        "own": own,
    }
    if "truth" in model.adaptors:
        made["oracle"] = packages(model, devices, support, "truth")
    values = {
        control: score_devices(
            model.adaptors[CONDITIONS.get(control, "support")], each, devices, support, score
        )
        for control, each in made.items()
    }
    return Result(Metric(metric), support, tuple(device.id for device in devices), values)


def pooled(results: Sequence[Result]) -> Result:
    """Results of several splits or seeds as one; a device that is in several counts once, with its mean.

    Args:
        results: Of one metric, support size and set of controls; one at least.
    """
    devices = tuple(dict.fromkeys(device for result in results for device in result.devices))

    def mean(control: str, device: str) -> float:
        found = [r.values[control][r.devices.index(device)] for r in results if device in r.devices]
        return float(np.mean(found))

    values = {
        control: np.array([mean(control, device) for device in devices]) for control in results[0].values
    }
    return Result(results[0].metric, results[0].support, devices, values)


def packages(
    model: OwnModel, devices: Sequence[OwnDevice], support: int, condition: str = "support"
) -> dict[str, Tensor]:
    """Package tensors (B, *shape) for B devices from their first `support` examples."""
    inputs = model.inputs([device.context[:support] for device in devices], [d.truth for d in devices])
    return model.adaptors[condition].generate(inputs)


def score_devices(
    adaptor: FormHypernetwork,
    made: dict[str, Tensor] | None,
    devices: Sequence[OwnDevice],
    skipped: int,
    score: Score,
) -> np.ndarray:
    """(B,) float64: each device's score behind its first `skipped` examples; without packages of the base."""
    scores = []
    with torch.no_grad():
        for place, device in enumerate(devices):
            values = None if made is None else one_of(made, place)
            with adaptor.adapted.use(values) as module:
                outputs = module(*(each[skipped:] for each in device.inputs))
            scores.append(score(outputs, device.labels[skipped:]))
    return np.array(scores)
