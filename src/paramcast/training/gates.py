"""The third stage: a gate for each adaptor, that keeps packages from devices which would not gain by them.

Expected gains are a ridge regression on what the FDA makes of a device's context, fitted on training devices,
each adapted from a base model that has not seen its clips, and calibrated on validation devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold

from paramcast.hypernet import Hypernetwork
from paramcast.training.statistics import interval

WORTH = 1.0
"""Percent points that an edit has to gain; to lose as many is what makes a device worse off."""
CAUTION = 0.5
"""Standard errors of what the gate expects that are taken off it. On validation devices this keeps nearly all
of the gain and makes half as many devices worse (docs/log.md)."""
STRENGTHS = np.logspace(0, 5, 11)
"""Of the ridge's penalty, among which leaving one device out decides."""

FOLDS = 8
"""Groups of devices, each of which is left out in turn when the penalty is chosen."""


class Outcomes(NamedTuple):
    """What was known of N devices, and what came of their packages' edits.

    Attributes:
        hidden: (N, H) float32, what the FDA made of their contexts.
        gains: (N,) float64, by the edit, of the mean of the task's figures, in percent points.
        refused: (N,) float64, the mean of the task's figures without the edit, in percent.
        devices: The device of each: one device has several outcomes, one a support size.
    """

    hidden: np.ndarray
    gains: np.ndarray
    refused: np.ndarray
    devices: tuple[str, ...] = ()


def promise(known: Outcomes, kinds: Sequence[str]) -> float:
    """Mean figure, in percent, if a gate refused all edits of those kinds of devices that lose by them.

    An adaptor is chosen by it: by the mean without a gate, one would win that does little, as most kinds of
    devices have nothing to gain.

    Args:
        known: Of N devices.
        kinds: Of each, the shifts that it has.
    """
    total, named = np.copy(known.refused), np.array(kinds)
    for kind in set(kinds):
        total[named == kind] += max(0.0, float(known.gains[named == kind].mean()))
    return float(total.mean())


def joined(parts: Iterable[Outcomes]) -> Outcomes:
    """All of them as one."""
    hidden, gains, refused, devices = zip(*parts, strict=True)
    names = tuple(name for each in devices for name in each)
    return Outcomes(np.concatenate(hidden), np.concatenate(gains), np.concatenate(refused), names)


def fit_gate(adaptor: Hypernetwork, known: Outcomes) -> None:
    """Let the gate expect what training devices gained."""
    centre, scale = known.hidden.mean(0), known.hidden.std(0) + 1e-3
    inputs = (known.hidden - centre) / scale
    ridge = Ridge(_strength(inputs, known)) if known.devices else RidgeCV(STRENGTHS)
    ridge.fit(inputs, known.gains)
    weight = ridge.coef_ / scale
    adaptor.gate.weight.copy_(torch.from_numpy(weight))
    adaptor.gate.bias.fill_(float(ridge.intercept_ - centre @ weight))


def _strength(inputs: np.ndarray, known: Outcomes) -> float:
    """Choose the penalty by devices that are left out, all outcomes of a device together.

    By one outcome of a device its others would be known. One decomposition serves all penalties of a fold:
    each is that of a target of its own.
    """
    devices = np.unique(known.devices, return_inverse=True)[1]
    wanted = np.tile(known.gains[:, None], len(STRENGTHS))
    scores = []
    for train, held in GroupKFold(min(FOLDS, devices.max() + 1)).split(devices, groups=devices):
        ridge = Ridge(STRENGTHS, solver="svd").fit(inputs[train], wanted[train])
        scores.append(r2_score(wanted[held], ridge.predict(inputs[held]), multioutput="raw_values"))
    return float(STRENGTHS[np.mean(scores, 0).argmax()])


def calibrate(adaptor: Hypernetwork, known: Outcomes) -> None:
    """Bring what the gate expects to what validation devices gained, by a line; from then on it refuses.

    Of devices that an adaptor was trained on it expects too much. A line needs few devices to be found; the
    threshold with the most gain on them would be another for every seed. What is expected has to be worth an
    edit even if it is `CAUTION` standard errors too high.
    """
    gate = adaptor.gate
    expected = gate.gain(torch.from_numpy(known.hidden)).numpy()
    centred = expected - expected.mean()
    slope = max(0.0, float(centred @ known.gains) / max(float(centred @ centred), 1e-6))
    gate.weight.mul_(slope)
    gate.bias.fill_(float(gate.bias) * slope + float(known.gains.mean() - slope * expected.mean()))
    error = float(np.std(known.gains - gate.gain(torch.from_numpy(known.hidden)).numpy()))
    gate.threshold.fill_(WORTH + CAUTION * error)


def need_evidence(hypernet: Hypernetwork, known: Outcomes) -> None:
    """Refuse all updates unless validation devices gain by those that pass, beyond chance.

    What they start from is good already, and a few devices calibrate a gate badly.
    """
    passed = hypernet.gate(torch.from_numpy(known.hidden)).numpy()
    if interval(np.where(passed, known.gains, 0.0)).low <= 0:
        hypernet.gate.threshold.fill_(math.inf)
