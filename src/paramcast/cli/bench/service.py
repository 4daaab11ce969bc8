"""`paramcast bench service`: measure a real server under load."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import FOLDER, json_option, needs, seed_option


@click.command(name="service", context_settings={"show_default": True})
@click.option(
    "--model", "model_dir", type=FOLDER, help="A trained model.  [default: models of the default sizes]"
)
@click.option("--seconds", default=4.0, type=click.FloatRange(0.5), help="Length of each load.")
@seed_option
@json_option
def command(model_dir: Path | None, seconds: float, seed: int, json_file: Path | None) -> None:
    """Measure a real server under load over loopback: throughput, latency, and the bytes of every form."""
    with needs("paramcast bench service", "train,server"):
        import uvicorn  # noqa: F401  a separate process needs it; fail early if it is missing

        from paramcast.bench.rows import rows_table
        from paramcast.bench.service import bench_service
    rows = bench_service(model_dir, seed, seconds)
    tell(rows_table(rows), rows, seed, json_file)
