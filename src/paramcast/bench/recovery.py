"""Share of the possible gain that adaptation reaches, under each shift alone and under all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramcast.bench.rows import evaluation_rows
from paramcast.video.data.collection import Collection
from paramcast.video.training.evaluate import evaluate
from paramcast.video.training.model import TrainedModel

SHIFTS = ("camera", "vocabulary", "category", "category+camera+vocabulary")
SUPPORT = 8


def bench_recovery(
    model: TrainedModel, collection: Collection, *, devices: int, seed: int, shifts: Sequence[str] = SHIFTS
) -> list[dict[str, Any]]:
    """Measure rows of `evaluate` at 8 support clips, on test devices under every shift.

    Args:
        model: Trained.
        collection: The devices are drawn from its clips that training never saw.
        devices: Number of devices under each shift.
        seed: Seed of the devices.
        shifts: See `training.evaluate.evaluate`.
    """
    rows: list[dict[str, Any]] = []
    for shift in shifts:
        found = evaluate(model, collection, shift=shift, devices=devices, support_sizes=(SUPPORT,), seed=seed)
        rows += evaluation_rows(found.results, model.config.task, shift, None)
    return rows
