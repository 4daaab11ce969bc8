"""`paramcast bench fuzz`: the wire format under a fuzzer."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import FOLDER, json_option, needs, seed_option


@click.command(name="fuzz", context_settings={"show_default": True})
@click.option("--inputs", default=1_000_000, type=click.IntRange(1000), help="How many are tried.")
@click.option(
    "--findings", default="findings", type=FOLDER, help="Where an input goes that breaks something."
)
@seed_option
@json_option
def command(inputs: int, findings: Path, seed: int, json_file: Path | None) -> None:
    """Fuzz all that is read from strangers: requests, packages, signatures' headers."""
    with needs("paramcast bench fuzz", "fuzz"):
        import atheris  # noqa: F401  it runs in a process of its own; better to know before it is started

        from paramcast.bench.fuzz import bench_fuzz
    with needs("paramcast bench fuzz", "train"):
        from paramcast.bench.rows import rows_table
    rows = bench_fuzz(inputs, seed, findings)
    tell(rows_table(rows), rows, seed, json_file)
