"""The third stage: a gate for each adaptor, that keeps packages from devices which would not gain by them.

Expected gains are a ridge regression on what the FDA makes of a device's context, fitted on training devices,
each adapted from a base model that has not seen its clips. How much gain is enough, validation devices say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from tqdm import tqdm

from paramcast.adaptor import Adaptor
from paramcast.training.arrays import ClipData, DeviceData
from paramcast.training.bank import Bank
from paramcast.training.episodes import SUPPORT_SIZES, Lessons, one_of
from paramcast.training.tasks import Task
from paramcast.training.views import UplinkTable

KEPT_GAIN = 0.95
"""So much of the gain on validation devices has to remain; where there is none, no package passes."""
STRENGTHS = np.logspace(0, 5, 11)
"""Of the ridge's penalty, among which leaving one device out decides."""


class Outcomes(NamedTuple):
    """What was known of N devices, and what came of their packages.

    Attributes:
        hidden: (N, H) float32, what the FDA made of their contexts.
        gains: (N,) float64, of the mean of the task's figures over the base model's, in percent points.
    """

    hidden: np.ndarray
    gains: np.ndarray


def outcomes(
    task: Task,
    adaptor: Adaptor,
    bank: Bank,
    table: UplinkTable,
    devices: Sequence[DeviceData],
    gallery: Sequence[ClipData],
    supports: Sequence[int],
) -> Outcomes:
    """Give every device its package, whatever the gate says; `supports` are the support sizes, in turn."""
    inputs = table.context(
        [
            device.clips[: min(size, device.support)]
            for device, size in zip(devices, cycle(supports), strict=False)
        ],
        [device.truth for device in devices],
    )
    with torch.no_grad():
        packages, hidden = adaptor.eval()(inputs)[0], adaptor.encode(inputs)
    gains = np.zeros(len(devices))
    for place, device in enumerate(devices):
        own, base = (
            np.mean(list(task.score(adaptor.dynamic, values, bank, device, gallery).values()))
            for values in (one_of(packages, place), None)
        )
        gains[place] = own - base
    return Outcomes(hidden.numpy(), gains)


def joined(parts: Iterable[Outcomes]) -> Outcomes:
    """All of them as one."""
    hidden, gains = zip(*parts, strict=True)
    return Outcomes(np.concatenate(hidden), np.concatenate(gains))


def gate_lessons(
    adaptor: Adaptor, lessons: Lessons, views: Sequence[tuple[Bank, UplinkTable]], name: str
) -> Iterator[Outcomes]:
    """Outcomes of the devices of a fold: shifted ones at every support size, as many plain ones at one."""
    task, others = lessons.task, lessons.others
    plain = lessons.plain[: len(SUPPORT_SIZES) * len(lessons.devices)]
    for bank, table in tqdm(views, desc=name, unit="view", disable=None):
        for size in SUPPORT_SIZES:
            yield outcomes(task, adaptor, bank, table, lessons.devices, others, [size])
        yield outcomes(task, adaptor, bank, table, plain, others, SUPPORT_SIZES)


def fit_gate(adaptor: Adaptor, known: Outcomes) -> None:
    """Let the gate expect what training devices gained."""
    centre, scale = known.hidden.mean(0), known.hidden.std(0) + 1e-3
    ridge = RidgeCV(STRENGTHS).fit((known.hidden - centre) / scale, known.gains)
    weight = ridge.coef_ / scale
    adaptor.gate.weight.copy_(torch.from_numpy(weight))
    adaptor.gate.bias.fill_(float(ridge.intercept_ - centre @ weight))


def set_threshold(adaptor: Adaptor, known: Outcomes) -> None:
    """Let the fewest packages pass that keep most of the gain of validation devices."""
    expected = adaptor.gate.gain(torch.from_numpy(known.hidden)).numpy()
    adaptor.gate.threshold.fill_(lowest_gain(expected, known.gains))


def lowest_gain(expected: np.ndarray, gains: np.ndarray) -> float:
    """The highest threshold on expected gains (N,) that keeps `KEPT_GAIN` of the best sum of gains (N,)."""
    order = np.argsort(-expected)
    sums = np.concatenate([[0.0], gains[order].cumsum()])  # of the first so many
    enough = int(np.flatnonzero(sums >= KEPT_GAIN * sums.max())[0])
    if enough == 0:
        return np.inf
    if enough == len(gains):
        return -np.inf
    return float(expected[order[enough - 1 : enough + 1]].mean())
