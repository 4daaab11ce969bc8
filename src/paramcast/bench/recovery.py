"""How much of what could be gained adaptation gains on the demo world, under each shift."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paramcast.bench.figures import evaluation_rows
from paramcast.data.collection import Collection
from paramcast.training.episodes import SUPPORT_SIZES
from paramcast.training.evaluate import evaluate
from paramcast.training.pipeline import TrainingOptions, train

SHIFTS = ("category", "camera", "vocabulary")


def bench_recovery(
    world: Collection,
    out: Path,
    options: TrainingOptions,
    *,
    devices: int = 100,
    support_sizes: Sequence[int] = SUPPORT_SIZES,
) -> list[dict[str, Any]]:
    """Train, or load what was trained before, and evaluate test devices under every shift.

    Args:
        world: The collection.
        out: The model's folder.
        options: Of the training; its seed is that of the devices too.
        devices: Test devices for each shift.
        support_sizes: Support clips a device.
    """
    model = train(world, out, options)
    rows: list[dict[str, Any]] = []
    for shift in SHIFTS:
        found = evaluate(
            model, world, shift=shift, devices=devices, support_sizes=support_sizes, seed=options.seed
        )
        rows += evaluation_rows(found.results, options.task, shift, None)
    return rows
