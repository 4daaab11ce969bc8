"""Comparison of adaptors that differ in one thing: the same base models, training and devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from paramcast.bench.rows import row
from paramcast.training.controls import Metric
from paramcast.training.statistics import interval
from paramcast.video.data.collection import Collection
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.episodes import generate, one_of
from paramcast.video.training.evaluate import test_clips, test_fleet
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.views import UplinkTable, Views

SHIFT = "category+camera+vocabulary"
SUPPORT = 8

METRICS = {"qa": Metric("top1"), "retrieval": Metric("r@1", "device")}
"""Metric by which adaptors are compared. Every device has it, also a device with a camera."""


@dataclass(frozen=True)
class TestDevices:
    """Devices whose clips training never saw, by default with all shifts at once.

    Attributes:
        bank: Features.
        clips: All test clips, unchanged.
        devices: Devices with 8 support clips and more.
    """

    __test__ = False  # the name would make pytest look for tests here

    bank: Bank
    clips: Sequence[ClipData]
    devices: Sequence[DeviceData]

    @classmethod
    def load(
        cls, model: TrainedModel, collection: Collection, devices: int, seed: int, shift: str = SHIFT
    ) -> TestDevices:
        """Draw and encode the devices; `model` is any of the models that share a base model.

        Raises:
            InputError: The collection has too few clips.
        """
        fleet = test_fleet(model, collection, shift, devices, SUPPORT, seed)
        bank, clips, data = Views(
            collection,
            test_clips(model, collection),
            fleet.devices,
            model.task,
            model.answer_numbers,
            model.config.categories,
        ).load(model.store(collection))
        return cls(bank, clips, data)

    def support(self, device: DeviceData) -> tuple[ClipData, ...]:
        """Return the clips that a device adapts with."""
        return device.clips[: min(SUPPORT, device.support)]

    def packages(
        self, model: TrainedModel, condition: str = "support", table: UplinkTable | None = None
    ) -> dict[str, Tensor]:
        """Generate the tensors (N, *shape) of the updates; without a table, use that of the model."""
        table = table or model.table(self.bank)
        return generate(model.adaptors[condition], table, self.devices, SUPPORT)

    def scores(
        self, name: str, model: TrainedModel, packages: Sequence[dict[str, Tensor] | None]
    ) -> np.ndarray:
        """Score every device under its update (1, *shape), or under the base model for None.

        Returns:
            (N,) float64, percent.
        """
        metric, adapted, found = METRICS[model.config.task], model.adaptor.adapted, []
        bar = tqdm(self.devices, desc=name, unit="device", disable=None)
        for device, values in zip(bar, packages, strict=True):
            found.append(model.task.score(adapted, values, self.bank, device, self.clips)[metric])
        return np.array(found)

    def reference(self, name: str, model: TrainedModel) -> np.ndarray:
        """Score without an update, and with the constant control's; return the better, (N,) percent."""
        constant = one_by_one(self.packages(model, "constant"))
        ways = (
            self.scores(f"{name}: base", model, [None] * len(constant)),
            self.scores(f"{name}: constant", model, constant),
        )
        return max(ways, key=lambda values: float(values.mean()))

    def bytes_up(self, model: TrainedModel) -> float:
        """Compute the bytes of a request, for all clips together; mean over the devices."""
        table, digest = model.table(self.bank), model.sha256()
        requests = (table.request(each.device.id, digest, self.support(each)) for each in self.devices)
        return float(np.mean([len(request.encode()) for request in requests]))


def one_by_one(packages: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split updates (N, *shape) into N updates of (1, *shape)."""
    return [one_of(packages, place) for place in range(len(next(iter(packages.values()))))]


def interval_row(
    name: str, values: np.ndarray, unit: str, against: str | None = None, ratio: float | None = None
) -> dict[str, Any]:
    """Make a row of a mean over devices or clips, values (N,), with its 95 % bootstrap interval."""
    found = interval(values).json()
    return row(name, found["mean"], unit, against, ratio) | {edge: found[edge] for edge in ("low", "high")}


def share(value: float, best: float) -> float | None:
    """Compute the share of the best gain; None where the best gains nothing."""
    return value / best if best > 0 else None
