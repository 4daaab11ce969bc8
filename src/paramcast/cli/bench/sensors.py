"""`paramcast bench sensors`: measure adaptation on real users' signals beside free baselines."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import FOLDER, json_option, needs, seed_option


@click.command(name="sensors", context_settings={"show_default": True})
@click.option("--data", required=True, type=FOLDER, help="Folder of *.npz sets whose users are for training.")
@click.option(
    "--test",
    type=FOLDER,
    help="Other users of the same sets.  [default: about a third of the users of --data]",
)
@click.option("--set", "names", multiple=True, help="A set; may be repeated.  [default: all]")
@seed_option
@json_option
def command(data: Path, test: Path | None, names: tuple[str, ...], seed: int, json_file: Path | None) -> None:
    """Adapt models to real users without labels, beside methods that run on the devices alone."""
    with needs("paramcast bench sensors", "train"):
        from paramcast.bench.sensors import bench_sensors, sensors_table
    rows = bench_sensors(data, test, names, seed)
    tell(sensors_table(rows), rows, seed, json_file)
