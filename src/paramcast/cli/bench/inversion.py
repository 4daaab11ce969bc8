"""`paramcast bench inversion`: what an uplink feature tells, and what noise hides and costs."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import data_option, models_and_collection, models_option, seeds_option, tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="inversion", context_settings={"show_default": True})
@models_option
@data_option
@seeds_option
@click.option("--devices", default=60, type=click.IntRange(2), help="Test devices of each model.")
@seed_option
@json_option
def command(
    model_dirs: tuple[Path, ...],
    data: Path | None,
    seeds: int,
    devices: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Reconstruct frames from what devices send, with and without noise, and score the devices."""
    with needs("paramcast bench inversion", "train"):
        from paramcast.bench.inversion import bench_inversion
        from paramcast.bench.rows import rows_table
    models, collection = models_and_collection(model_dirs, data, range(seed, seed + seeds))
    rows = bench_inversion(models, collection, devices=devices, seed=seed)
    tell(rows_table(rows), rows, seed, json_file)
