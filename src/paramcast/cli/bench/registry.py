"""`paramcast bench registry`: few devices known, and many."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="registry", context_settings={"show_default": True})
@click.option("--state", help="An empty state: a file or a URL.  [default: a temporary SQLite file]")
@click.option(
    "--devices",
    "sizes",
    multiple=True,
    default=(100, 10_000, 1_000_000),
    type=click.IntRange(32),
    help="Devices known, rising; may be given several times.",
)
@seed_option
@json_option
def command(state: str | None, sizes: tuple[int, ...], seed: int, json_file: Path | None) -> None:
    """Time an adaptation with few devices known and with many, signed and recorded."""
    with needs("paramcast bench registry", "train,server"):
        from paramcast.bench.registry import bench_registry
        from paramcast.bench.rows import rows_table
    rows = bench_registry(state, seed, sorted(sizes))
    tell(rows_table(rows), rows, seed, json_file)
