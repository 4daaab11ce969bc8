"""`paramcast bench adr`: what the ADR is worth."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import data_option, devices_option, quick_option, task_option, tell, to_train
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="adr", context_settings={"show_default": True})
@data_option
@task_option
@devices_option
@quick_option
@seed_option
@json_option
def command(
    data: Path | None, task: str, devices: int, quick: bool, seed: int, json_file: Path | None
) -> None:
    """Does the ADR earn its bytes: its intervals, and gains without it, with it and with whole clips.

    A run that was stopped goes on where it was.
    """
    with needs("paramcast bench adr", "train"):
        from paramcast.bench.adr import bench_adr
        from paramcast.bench.rows import rows_table

        training = to_train(data, task, quick, seed)
    rows = bench_adr(*training, devices=devices, seed=seed)
    tell(rows_table(rows), rows, seed, json_file)
