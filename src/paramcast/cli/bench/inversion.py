"""`paramcast bench inversion`: what an uplink feature tells, and what noise hides and costs."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import data_option
from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command


@click.command(name="inversion", context_settings={"show_default": True})
@click.option("--model", "model_dirs", type=FOLDER, multiple=True, help="A trained model; may be repeated.")
@data_option
@click.option("--seeds", default=3, type=click.IntRange(1), help="Models to train, where none is given.")
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
        from paramcast.bench.figures import write_figures
        from paramcast.bench.fleet_models import demo_sized_models
        from paramcast.bench.inversion import bench_inversion
        from paramcast.bench.rows import rows_table
        from paramcast.data.collection import Collection
        from paramcast.data.world import demo_world
    collection = Collection.open(data) if data else demo_world()
    models = demo_sized_models(collection, model_dirs, range(seed, seed + seeds))
    rows = bench_inversion(models, collection, devices=devices, seed=seed)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)
