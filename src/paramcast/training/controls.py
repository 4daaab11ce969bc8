"""The controls of an evaluation, and the results that follow from them: gain, recovery, harmed devices."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from paramcast.training.statistics import Interval, interval

CONTROLS = ("base", "constant", "shuffled", "own", "oracle")
CONDITIONS = {"constant": "constant", "oracle": "truth"}
"""Control -> the condition of its hypernetwork. All other controls use the condition 'support', which serves
devices."""

WORSE_BY = 1.0
"""A device is harmed if its own update costs it more than this number of points."""


@dataclass(frozen=True)
class Metric:
    """A metric of a task. In retrieval, `gallery` names the candidates for the clip of a text."""

    name: str
    gallery: str | None = None


@dataclass(frozen=True)
class Result:
    """One metric at one support size: the value of every device under each control, in percent.

    Attributes:
        metric: The metric.
        support: Support clips, or support examples, of each device.
        devices: Device ids, in the order of the values.
        values: Control -> (N,) float64. The oracle is present only where the true domains are known.
        higher_is_better: False for errors. Gains are positive where the updates help, in both cases.
    """

    metric: Metric
    support: int
    devices: tuple[str, ...]
    values: dict[str, np.ndarray]
    higher_is_better: bool = True

    def better(self, control: str, than: str) -> np.ndarray:
        """Compute the advantage of one control over another on each device: (N,) float64."""
        difference: np.ndarray = self.values[control] - self.values[than]
        return difference if self.higher_is_better else -difference

    @property
    def reference(self) -> str:
        """The better of the two controls that use no data of the device: 'base' or 'constant'."""
        return "constant" if self.better("constant", "base").mean() > 0 else "base"

    @property
    def gain(self) -> Interval:
        """Score of `own` minus the better score of `base` and `constant`, paired over devices."""
        return interval(self.better("own", self.reference))

    @property
    def gain_over_free(self) -> Interval | None:
        """Score of `own` minus the score of the best free baseline, paired; None without a baseline."""
        return interval(self.better("own", "best_free")) if "best_free" in self.values else None

    @property
    def device_matters(self) -> Interval:
        """Score of `own` minus the score of `shuffled`, paired over devices."""
        return interval(self.better("own", "shuffled"))

    @property
    def recovery(self) -> float | None:
        """Share of the oracle's gain; None without an oracle, or where it is no upper reference.

        The oracle is no upper reference if its gain is zero, negative or below the gain of `own`.
        """
        if "oracle" not in self.values:
            return None
        room = float(self.better("oracle", self.reference).mean())
        return self.gain.mean / room if room > 0 and self.gain.mean <= room else None

    @property
    def worse_share(self) -> float:
        """Share of devices that lose more than one point (of an error: one percent) against the base."""
        worse_by = WORSE_BY if self.higher_is_better else 0.01 * np.abs(self.values["base"])
        return float((self.better("own", "base") < -worse_by).mean())

    def among(self, devices: Collection[str]) -> Result:
        """Select the values of some of the devices."""
        kept = np.isin(self.devices, list(devices))
        return replace(
            self,
            devices=tuple(np.array(self.devices)[kept].tolist()),
            values={control: values[kept] for control, values in self.values.items()},
        )


def derangement(count: int, seed: int) -> Tensor:
    """Draw, for each device, the index of the device whose update it gets: (count,) int64.

    With two devices or more, no device gets its own update.
    """
    ring = np.random.default_rng(seed).permutation(count)
    order = np.empty(count, np.int64)
    order[ring] = np.roll(ring, 1)
    return torch.from_numpy(order)
