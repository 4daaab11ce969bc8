"""`paramcast bench soak`: a real server, for minutes."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="soak", context_settings={"show_default": True})
@click.option("--seconds", default=300.0, type=click.FloatRange(5), help="Length of the load.")
@click.option("--rate", default=500.0, type=click.FloatRange(1), help="Signed requests a second.")
@seed_option
@json_option
def command(seconds: float, rate: float, seed: int, json_file: Path | None) -> None:
    """Load a real server for minutes: does its memory stay flat, is everything answered."""
    with needs("paramcast bench soak", "train,server"):
        from paramcast.bench.rows import rows_table
        from paramcast.bench.soak import bench_soak
    rows = bench_soak(seconds, rate, seed)
    tell(rows_table(rows), rows, seed, json_file)
