"""`paramcast bench gate`: measure the devices that the gate protects."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import (
    data_option,
    models_and_collection,
    models_option,
    seeds_option,
    shifts_option,
    task_option,
    tell,
)
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="gate", context_settings={"show_default": True})
@models_option
@data_option
@seeds_option
@task_option
@click.option(
    "--devices", default=60, type=click.IntRange(2), help="Number of test devices of each model and shift."
)
@shifts_option("devices", "category", "camera", "vocabulary", "category+camera+vocabulary")
@seed_option
@json_option
def command(
    model_dirs: tuple[Path, ...],
    data: Path | None,
    seeds: int,
    task: str,
    devices: int,
    shifts: tuple[str, ...],
    seed: int,
    json_file: Path | None,
) -> None:
    """Measure the share of the gain that the gate keeps, and how many devices it saves from a loss."""
    with needs("paramcast bench gate", "train"):
        from paramcast.bench.gate import bench_gate, gate_table
    models, collection = models_and_collection(model_dirs, data, range(seed, seed + seeds), task)
    rows = bench_gate(models, collection, shifts=shifts, devices=devices, seed=seed)
    tell(gate_table(rows), rows, seed, json_file)
