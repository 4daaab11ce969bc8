"""Possible gains: the base, the update, the oracle, and fine-tuning on many labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from paramcast.bench.compare import CompareOptions, compare
from paramcast.bench.rows import evaluation_rows
from paramcast.bench.table import align, interval_text, metric_name
from paramcast.cli.bench.options import shifts_option, tell
from paramcast.cli.common import (
    json_option,
    out_option,
    parts_folder,
    seed_option,
    test_data_option,
    trained_model_option,
    trained_on_option,
)
from paramcast.training.statistics import interval
from paramcast.video.data.collection import Collection
from paramcast.video.training.evaluate import evaluate
from paramcast.video.training.model import TrainedModel

SUPPORTS = (1, 8)
"""Numbers of support clips of an update, besides the number of clips of fine-tuning."""


def bench_headroom(
    model: TrainedModel,
    collection: Collection,
    trained_on: Collection,
    *,
    shifts: Sequence[str],
    devices: int,
    labeled_clips: int,
    seed: int,
    folder: Path,
) -> list[dict[str, Any]]:
    """Measure rows of `evaluate`, with the score of fine-tuning and the possible gains.

    A row gets `labeled`, the score of fine-tuning, and `room`, the points of the oracle and of fine-tuning
    above the better of base and constant control.

    Args:
        model: Trained.
        collection: Collection of the test devices.
        trained_on: Collection of the training, on whose validation devices fine-tuning is tuned; may be the
            same.
        shifts: See `training.evaluate.evaluate`; each is a part of the map.
        devices: Number of devices under each shift.
        labeled_clips: Clips of each device; fine-tuning has all their labels.
        seed: Seed of the devices.
        folder: Keeps the results of fine-tuning, so that a stopped run can be resumed.
    """
    rows: list[dict[str, Any]] = []
    sizes = sorted({*SUPPORTS, labeled_clips})
    for shift in shifts:
        found = evaluate(model, collection, shift=shift, devices=devices, support_sizes=sizes, seed=seed)
        options = CompareOptions(shift, devices, max(sizes), 1, seed)
        (tuned,) = compare(model, collection, trained_on, ["fta_all"], options, folder / shift)
        for result, row in zip(
            found.results, evaluation_rows(found.results, model.config.task, shift, None), strict=True
        ):
            labeled, reference = tuned.values[result.metric], result.values[result.reference]
            room = {
                "oracle": interval(result.values["oracle"] - reference).json(),
                "labeled": interval(labeled - reference).json(),
            }
            labels = tuned.cost["labels"]
            rows.append({**row, "labeled": interval(labeled).json(), "labels": labels, "room": room})
    return rows


def headroom_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the map: a line for each metric, shift and support size."""
    cells = [["shift, figure", "clips", "base", "own", "oracle", "labeled", "gain", "room, oracle", "room"]]
    for row in rows:
        means = [row["controls"][control]["mean"] for control in ("base", "own", "oracle")]
        gains = [row["gain"], row["room"]["oracle"], row["room"]["labeled"]]
        cells.append(
            [
                f"{row['shift']}, {metric_name(row)}",
                str(row["support"]),
                *(f"{mean:.1f}" for mean in [*means, row["labeled"]["mean"]]),
                *(interval_text(gain, "+") for gain in gains),
            ]
        )
    return align(cells)


@click.command(name="headroom", context_settings={"show_default": True})
@trained_model_option
@test_data_option
@trained_on_option
@shifts_option("devices", "none", "category", "camera", "vocabulary")
@click.option("--devices", default=40, type=click.IntRange(2), help="Test devices under each shift.")
@click.option(
    "--labeled",
    default=40,
    type=click.IntRange(8, 64),
    help="Clips of a device, all of whose labels fine-tuning has.",
)
@seed_option
@json_option
@out_option
def command(
    model_dir: Path,
    data: Path,
    trained_on: Path | None,
    shifts: tuple[str, ...],
    devices: int,
    labeled: int,
    seed: int,
    json_file: Path | None,
    out: Path | None,
) -> None:
    """Map the possible gains: the oracle, and fine-tuning on all labels of many clips."""
    model, collection = TrainedModel.load(model_dir), Collection.open(data)
    before = Collection.open(trained_on) if trained_on else collection
    with parts_folder(out, json_file) as folder:
        rows = bench_headroom(
            model,
            collection,
            before,
            shifts=shifts,
            devices=devices,
            labeled_clips=labeled,
            seed=seed,
            folder=folder,
        )
    tell(headroom_table(rows), rows, seed, json_file)
