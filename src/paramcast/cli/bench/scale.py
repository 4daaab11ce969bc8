"""`paramcast bench scale`: several processes of the service, and replicas on Ray."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="scale", context_settings={"show_default": True})
@click.option(
    "--processes",
    multiple=True,
    default=(2,),
    type=click.IntRange(2),
    help="Processes beside one alone; may be given several times.",
)
@click.option(
    "--replicas",
    multiple=True,
    type=click.IntRange(1),
    help="Replicas on Ray, too (extra `ray`); may be given several times.",
)
@click.option("--state", help="An empty one, for all: a file or a URL.  [default: a temporary SQLite file]")
@click.option("--seconds", default=10.0, type=click.FloatRange(1), help="Length of each load.")
@seed_option
@json_option
def command(
    processes: tuple[int, ...],
    replicas: tuple[int, ...],
    state: str | None,
    seconds: float,
    seed: int,
    json_file: Path | None,
) -> None:
    """Load one process of the service, several on one state, and replicas on Ray, in turns."""
    with needs("paramcast bench scale", "train,server"):
        from paramcast.bench.rows import rows_table
        from paramcast.bench.scale import bench_scale
    rows = bench_scale(processes, replicas, state, seconds, seed)
    tell(rows_table(rows), rows, seed, json_file)
