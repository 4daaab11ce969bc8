"""Effect of the gate: the share of the gain that it keeps, and the devices that it protects from a loss.

The same test devices get the same updates, once as the gate lets them through and once all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from paramcast.bench.ratios import share_interval
from paramcast.bench.table import align, interval_text
from paramcast.bench.variants import SUPPORT, TestDevices
from paramcast.training.controls import WORSE_BY
from paramcast.training.statistics import interval
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.outcomes import outcomes


class Judged(NamedTuple):
    """Points over the base model, as the mean of the task's metrics: (N,) each, one number for each device.

    Attributes:
        open: With every update.
        gated: With the updates that the gate lets through.
        passed: (N,) bool, whether the gate lets the update through.
    """

    open: np.ndarray
    gated: np.ndarray
    passed: np.ndarray


def bench_gate(
    models: Sequence[TrainedModel], collection: Collection, *, shifts: Sequence[str], devices: int, seed: int
) -> list[dict[str, Any]]:
    """Measure a row for each shift, over the devices of all models, and one row for all shifts.

    Args:
        models: Trained for the same task, with different seeds.
        collection: Collection of the test devices.
        shifts: See `training.evaluate.evaluate`.
        devices: Number of devices of each model under each shift.
        seed: Seed of the devices.

    Raises:
        InputError: The collection has too few clips for a model's task, or a shift is unknown.
    """
    found: dict[str, list[Judged]] = {}
    for shift in tqdm(shifts, desc="shifts", unit="shift", disable=None):
        found[shift] = [judge(model, collection, shift, devices, seed) for model in models]
    found["all"] = [one for judged in found.values() for one in judged]
    return [gate_row(shift, judged, len(models)) for shift, judged in found.items()]


def judge(model: TrainedModel, collection: Collection, shift: str, devices: int, seed: int) -> Judged:
    """Evaluate every device under the update from its support clips, with the gate and without it."""
    drawn = TestDevices.load(model, collection, devices, seed, shift)
    bank, clips, data = drawn.bank, drawn.clips, drawn.devices
    adaptor, task = model.adaptor, model.task
    known = outcomes(task, adaptor, (bank, model.table(bank)), data, clips, [SUPPORT])
    base = np.array([task.mean_score(adaptor.adapted, None, bank, device, clips) for device in data])
    passed = adaptor.gate(torch.from_numpy(known.hidden)).numpy()
    refused = known.refused - base
    everything = refused + known.gains
    return Judged(everything, np.where(passed, everything, refused), passed)


def gate_row(shift: str, judged: Sequence[Judged], models: int) -> dict[str, Any]:
    """Join devices of several models, or shifts, to one row; `kept` is None where no gain is certain."""
    everything, gated, passed = (np.concatenate(parts) for parts in zip(*judged, strict=True))
    kept = share_interval(gated, everything)
    return {
        "name": "gate",
        "shift": shift,
        "models": models,
        "devices": len(passed),
        "support": SUPPORT,
        "open": interval(everything).json(),
        "gated": interval(gated).json(),
        "kept": kept.json() if kept else None,
        "worse_open": float((everything < -WORSE_BY).mean()),
        "worse_gated": float((gated < -WORSE_BY).mean()),
        "passed": float(passed.mean()),
    }


def gate_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for a terminal."""
    head = ["shift", "devices", "gain of all packages", "gain of those let through", "kept"]
    cells = [[*head, "worse: all", "let through", "packages let through"]]
    for row in rows:
        cells.append(
            [
                row["shift"],
                str(row["devices"]),
                *(interval_text(row[gain], "+") for gain in ("open", "gated")),
                f"{100 * row['kept']['mean']:.0f} %" if row["kept"] else "nothing to keep",
                *(f"{100 * row[share]:.1f} %" for share in ("worse_open", "worse_gated", "passed")),
            ]
        )
    return align(cells)
