"""The third stage of training: the gain predictor of each hypernetwork, called its gate.

The gate decides which devices get an update. It predicts gains by a ridge regression on the FDA's hidden
vector. The regression is fitted on training devices, each adapted from a base model that has not seen its
examples. Then it is calibrated on validation devices.
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
from paramcast.training.statistics import over_seeds

WORTH = 1.0
"""Percent points that an update has to gain. A device that loses as many points is harmed."""
CAUTION = 0.5
"""Number of standard errors that is subtracted from a predicted gain. On validation devices, this value keeps
nearly all of the gain and halves the number of harmed devices (docs/log.md)."""
STRENGTHS = np.logspace(0, 5, 11)
"""Candidates for the ridge penalty; cross-validation chooses one."""

VALIDATIONS = 4
"""Number of validations of a hypernetwork. With more validations, a step would be selected by chance."""

FOLDS = 8
"""Number of groups of devices for the cross-validation of the ridge penalty."""


class Outcomes(NamedTuple):
    """Hidden vectors of N devices, and the gains of their updates.

    Attributes:
        hidden: (N, H) float32, the FDA's hidden vectors.
        gains: (N,) float64, the gain of the mean of the task's metrics by the update, in percent points.
        refused: (N,) float64, the mean of the task's metrics if the update is refused, in percent.
        devices: The device of each row. A device can have several rows, one for each support size.
    """

    hidden: np.ndarray
    gains: np.ndarray
    refused: np.ndarray
    devices: tuple[str, ...] = ()


def promise(known: Outcomes, kinds: Sequence[str]) -> float:
    """Compute the mean score, in percent, if a gate refused the updates for all kinds that lose by them.

    The training step of a hypernetwork is selected by this score. The mean without a gate would select a
    hypernetwork that changes little, because most kinds of devices have nothing to gain.

    Args:
        known: Outcomes of N devices.
        kinds: For each device, its kind: the names of its shifts.
    """
    total, named = np.copy(known.refused), np.array(kinds)
    for kind in set(kinds):
        total[named == kind] += max(0.0, float(known.gains[named == kind].mean()))
    return float(total.mean())


def joined(parts: Iterable[Outcomes]) -> Outcomes:
    """Concatenate outcomes."""
    hidden, gains, refused, devices = zip(*parts, strict=True)
    names = tuple(name for each in devices for name in each)
    return Outcomes(np.concatenate(hidden), np.concatenate(gains), np.concatenate(refused), names)


def fit_gate(adaptor: Hypernetwork, known: Outcomes) -> None:
    """Fit the gate to the gains of training devices."""
    centre, scale = known.hidden.mean(0), known.hidden.std(0) + 1e-3
    inputs = (known.hidden - centre) / scale
    ridge = Ridge(_strength(inputs, known)) if known.devices else RidgeCV(STRENGTHS)
    ridge.fit(inputs, known.gains)
    weight = ridge.coef_ / scale
    adaptor.gate.weight.copy_(torch.from_numpy(weight))
    adaptor.gate.bias.fill_(float(ridge.intercept_ - centre @ weight))


def _strength(inputs: np.ndarray, known: Outcomes) -> float:
    """Choose the penalty by cross-validation, with all outcomes of a device in the same fold.

    One outcome of a device would reveal its other outcomes. One decomposition serves all penalties of a fold:
    each penalty has its own copy of the target.
    """
    devices = np.unique(known.devices, return_inverse=True)[1]
    wanted = np.tile(known.gains[:, None], len(STRENGTHS))
    scores = []
    for train, held in GroupKFold(min(FOLDS, devices.max() + 1)).split(devices, groups=devices):
        ridge = Ridge(STRENGTHS, solver="svd").fit(inputs[train], wanted[train])
        scores.append(r2_score(wanted[held], ridge.predict(inputs[held]), multioutput="raw_values"))
    return float(STRENGTHS[np.mean(scores, 0).argmax()])


def calibrate(adaptor: Hypernetwork, known: Outcomes) -> None:
    """Calibrate the gate's predictions on validation devices by a line, and set its threshold.

    A gate that is fitted on training devices of the hypernetwork predicts too much gain. A line can be fitted
    on few devices, while the threshold with the most gain on them would differ from seed to seed. An update
    passes if its predicted gain, less `CAUTION` standard errors, exceeds `WORTH`.
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
    """Refuse all updates unless the updates that pass help validation devices, beyond chance.

    The start of the updates is good already, and few devices calibrate a gate badly. The training step was
    chosen among `VALIDATIONS` on the same devices, so the interval is as much wider (Bonferroni).
    """
    passed = hypernet.gate(torch.from_numpy(known.hidden)).numpy()
    if over_seeds(np.where(passed, known.gains, 0.0), 1 - 0.05 / VALIDATIONS).low <= 0:
        hypernet.gate.threshold.fill_(math.inf)
