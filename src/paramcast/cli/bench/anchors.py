"""`paramcast bench anchors`: which frame of a clip to send."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import (
    data_option,
    devices_option,
    model_option,
    models_and_collection,
    task_option,
    tell,
)
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="anchors", context_settings={"show_default": True})
@model_option
@data_option
@task_option
@devices_option
@seed_option
@json_option
def command(
    model_dir: Path | None, data: Path | None, task: str, devices: int, seed: int, json_file: Path | None
) -> None:
    """Gains by the middle frame of a clip, the first, the sharpest, the medoid, and the ADR's surest."""
    with needs("paramcast bench anchors", "train"):
        from paramcast.bench.anchors import bench_anchors
        from paramcast.bench.rows import rows_table
    (model,), collection = models_and_collection([model_dir] if model_dir else [], data, [seed], task)
    rows = bench_anchors(model, collection, devices=devices, seed=seed)
    tell(rows_table(rows), rows, seed, json_file)
