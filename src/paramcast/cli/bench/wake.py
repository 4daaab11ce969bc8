"""`paramcast bench wake`: a fleet that wakes at once."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="wake", context_settings={"show_default": True})
@click.option("--devices", default=100_000, type=click.IntRange(1, 9_999_999), help="That wake at once.")
@seed_option
@json_option
def command(devices: int, seed: int, json_file: Path | None) -> None:
    """Wake a fleet at once: is each device served in the end, and what does that cost the service."""
    with needs("paramcast bench wake", "train,server"):
        from paramcast.bench.rows import rows_table
        from paramcast.bench.wake import bench_wake
    rows = bench_wake(devices, seed)
    tell(rows_table(rows), rows, seed, json_file)
