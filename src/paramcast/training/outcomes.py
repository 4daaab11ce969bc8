"""Gains of devices by their updates, for fitting the gain predictor and for the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paramcast.training import examples, gates
from paramcast.training.bases import base_scores, restored_to
from paramcast.training.devices import DeviceData
from paramcast.training.model import device_of
from paramcast.training.scoring import Contexts, scores_of, training_sizes, updates, validation_sizes
from paramcast.training.start import starting

if TYPE_CHECKING:
    from paramcast.training.trainer import Plan


def fit_gain_predictor(plan: Plan) -> None:
    """Fit the gain predictor to the gains of training devices, and calibrate it on validation devices."""
    model, hypernet = plan.model, plan.model.hypernet
    unit = _points(plan)

    def outcomes(devices: Sequence[DeviceData], size: int) -> gates.Outcomes:
        skipped = [min(size, len(device) // 2) for device in devices]
        contexts = [model.context_of(device, slice(0, n)) for device, n in zip(devices, skipped, strict=True)]
        inputs = model.inputs(contexts)
        with torch.no_grad():
            hidden = hypernet.eval().encode(inputs)
            made = hypernet.values(hidden, inputs)
        at = device_of(model.net)
        seen = [
            examples.moved(examples.take(d.inputs, slice(0, n)), at)
            for d, n in zip(devices, skipped, strict=True)
        ]
        start = starting(model.fitted.start, model.net, seen)
        still = {
            k: v.expand(len(devices), *v.shape) for k, v in hypernet.adapter.base_values().items()
        } | start
        made |= start
        own, base = (
            np.array(
                [
                    scores_of(
                        model,
                        [d],
                        None if m is None else {k: v[i : i + 1] for k, v in m.items()},
                        n,
                        plan.score,
                    )[0]
                    for i, (d, n) in enumerate(zip(devices, skipped, strict=True))
                ]
            )
            for m in (made, still if start else None)
        )
        sign = plan.score.sign / unit
        return gates.Outcomes(
            hidden.cpu().numpy(), sign * (own - base), sign * base, tuple(d.id for d in devices)
        )

    parts = []
    for state, devices in plan.lessons:
        restored_to(model.net, state)
        parts += [outcomes(devices, size) for size in training_sizes(plan.support)]
    restored_to(model.net, plan.final)
    gates.fit_gate(hypernet, gates.joined(parts))
    gates.calibrate(
        hypernet, gates.joined(outcomes(plan.validation, size) for size in validation_sizes(plan.support))
    )
    if model.fitted.start is not None:
        gates.need_evidence(hypernet, outcomes(plan.validation, plan.support))


def summary(plan: Plan) -> dict[str, Any]:
    """Evaluate on validation devices; return the scores and a verdict as text."""
    model = plan.model
    contexts = Contexts(model)
    size = plan.support
    own = scores_of(
        model,
        plan.validation,
        updates(model, plan.validation, size, "support", contexts, gated=True),
        size,
        plan.score,
    )
    base = scores_of(model, plan.validation, None, size, plan.score)
    gain = plan.score.sign * float(np.nanmean(own - base))
    verdict = (
        f"on {len(plan.validation)} validation devices updates gain {gain:+.2f} {plan.score.name}"
        if gain > 0
        else f"no update beats the base on {len(plan.validation)} validation devices: "
        "devices keep the base; more training devices or another context= may help"
    )
    return {
        "score": plan.score.name,
        "higher_is_better": plan.score.higher_is_better,
        "base": round(float(np.nanmean(base)), 4),
        "own": round(float(np.nanmean(own)), 4),
        "verdict": verdict,
    }


def _points(plan: Plan) -> float:
    """Return the size of one point of the score: 1 for percent, 1 % of the base's error for errors."""
    if plan.score.higher_is_better:
        return 1.0
    return max(1e-9, 0.01 * float(np.nanmean(base_scores(plan.model, plan.validation, plan.score))))
