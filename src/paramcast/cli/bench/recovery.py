"""`paramcast bench recovery`: measure the share of the oracle's gain that adaptation reaches."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import data_option, model_option, models_and_collection, tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="recovery", context_settings={"show_default": True})
@model_option
@click.option(
    "--task",
    default="qa",
    type=click.Choice(["qa", "choice", "retrieval"]),
    help="Task of the trained models, if none is given.",
)
@data_option
@click.option(
    "--devices", default=100, type=click.IntRange(2), help="Number of test devices under each shift."
)
@seed_option
@json_option
def command(
    model_dir: Path | None, task: str, data: Path | None, devices: int, seed: int, json_file: Path | None
) -> None:
    """Measure the share of the oracle's gain that 8 clips reach, under each shift and under all together."""
    with needs("paramcast bench recovery", "train"):
        from paramcast.bench.recovery import bench_recovery
        from paramcast.bench.table import controls_table
    (model,), collection = models_and_collection([model_dir] if model_dir else [], data, [seed], task)
    rows = bench_recovery(model, collection, devices=devices, seed=seed)
    tell("\n\n".join(controls_table([row]) for row in rows), rows, seed, json_file)
