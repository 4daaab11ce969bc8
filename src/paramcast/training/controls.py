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
    """

    metric: Metric
    support: int
    devices: tuple[str, ...]
    values: dict[str, np.ndarray]

    @property
    def reference(self) -> str:
        """The better of the two ways that need no device: 'base' or 'constant'."""
        return max(("base", "constant"), key=lambda control: self.values[control].mean())

    @property
    def gain(self) -> Interval:
        """Own - max(base, constant), paired over devices."""
        return interval(self.values["own"] - self.values[self.reference])

    @property
    def device_matters(self) -> Interval:
        """Own - shuffled, paired over devices."""
        return interval(self.values["own"] - self.values["shuffled"])

    @property
    def recovery(self) -> float | None:
        """Share of the oracle's gain that is had; None where there is no oracle, or it gains nothing."""
        if "oracle" not in self.values:
            return None
        room = float((self.values["oracle"] - self.values[self.reference]).mean())
        return self.gain.mean / room if room > 0 else None

    @property
    def worse_share(self) -> float:
        """Share of devices that lose more than one point against the base model."""
        return float((self.values["own"] < self.values["base"] - WORSE_BY).mean())

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
