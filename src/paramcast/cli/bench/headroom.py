"""`paramcast bench headroom`: where there is something to gain."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import shifts_option, tell
from paramcast.cli.common import (
    json_option,
    needs,
    out_option,
    parts_folder,
    seed_option,
    test_data_option,
    trained_model_option,
    trained_on_option,
)


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
    """Map where there is something to gain: the oracle, and fine-tuning on all labels of many clips."""
    with needs("paramcast bench headroom", "train"), needs("paramcast bench headroom", "methods"):
        from paramcast.bench.headroom import bench_headroom, headroom_table
        from paramcast.video.data.collection import Collection
        from paramcast.video.training.model import TrainedModel
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
