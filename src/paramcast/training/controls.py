"""What every figure stands beside, and what follows from it: gain, recovery, who is worse off."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from paramcast.training.statistics import Interval, interval

CONTROLS = ("base", "constant", "shuffled", "own", "oracle")
CONDITIONS = {"constant": "constant", "oracle": "truth"}
"""Control -> the condition of its adaptor; all others have that which serves devices, 'support'."""

WORSE_BY = 1.0
"""A device is worse off when its own package costs it more than this many points."""


@dataclass(frozen=True)
class Metric:
    """A figure of a task. `gallery` says, in retrieval, among what a text's clip is looked for."""

    name: str
    gallery: str | None = None


@dataclass(frozen=True)
class Result:
    """One figure at one support size: each control's value for every device, in percent.

    Attributes:
        metric: Which figure.
        support: Support clips, or examples, a device.
        devices: Device ids, in the order of the values.
        values: Control -> (N,) float64; an oracle only where the true domains are known.
        higher_is_better: False for errors; gains are positive where the updates help, either way.
    """

    metric: Metric
    support: int
    devices: tuple[str, ...]
    values: dict[str, np.ndarray]
    higher_is_better: bool = True

    def better(self, control: str, than: str) -> np.ndarray:
        """By how much one control is better than another on each device: (N,) float64."""
        difference: np.ndarray = self.values[control] - self.values[than]
        return difference if self.higher_is_better else -difference

    @property
    def reference(self) -> str:
        """The better of the two ways that need no device: 'base' or 'constant'."""
        return "constant" if self.better("constant", "base").mean() > 0 else "base"

    @property
    def gain(self) -> Interval:
        """Own against the better of base and constant, paired over devices."""
        return interval(self.better("own", self.reference))

    @property
    def gain_over_free(self) -> Interval | None:
        """Own against the best free baseline, paired over devices; None where there is none."""
        return interval(self.better("own", "best_free")) if "best_free" in self.values else None

    @property
    def device_matters(self) -> Interval:
        """Own against shuffled, paired over devices."""
        return interval(self.better("own", "shuffled"))

    @property
    def recovery(self) -> float | None:
        """Share of the oracle's gain; None without an oracle, or where it is no upper reference."""
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
        """The same of some of the devices alone."""
        kept = np.isin(self.devices, list(devices))
        return replace(
            self,
            devices=tuple(np.array(self.devices)[kept].tolist()),
            values={control: values[kept] for control, values in self.values.items()},
        )


def derangement(count: int, seed: int) -> Tensor:
    """Whose package each device gets: never its own, where there are two devices or more."""
    ring = np.random.default_rng(seed).permutation(count)
    order = np.empty(count, np.int64)
    order[ring] = np.roll(ring, 1)
    return torch.from_numpy(order)
