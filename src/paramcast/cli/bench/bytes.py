"""`paramcast bench bytes`: accuracy against bytes."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import data_option, devices_option, quick_option, task_option, tell, to_train
from paramcast.cli.common import FILE, json_option, needs, seed_option, typed_command


@click.command(name="bytes", context_settings={"show_default": True})
@data_option
@task_option
@devices_option
@quick_option
@seed_option
@json_option
@click.option("--html", "page_file", type=FILE, help="Write a page with a chart to this file.")
def command(
    data: Path | None,
    task: str,
    devices: int,
    quick: bool,
    seed: int,
    json_file: Path | None,
    page_file: Path | None,
) -> None:
    """Accuracy against bytes: every form of package in every quantization.

    A run that was stopped goes on where it was.
    """
    with needs("paramcast bench bytes", "train"):
        from paramcast.bench.bytes import bench_bytes, bytes_table, verdict
        from paramcast.bench.figures import figures
        from paramcast.bench.report.bytes import write_bytes_page

        training = to_train(data, task, quick, seed)
    rows = bench_bytes(*training, devices=devices, seed=seed)
    tell(f"{bytes_table(rows)}\n\n{verdict(rows)}", rows, seed, json_file)
    if page_file is not None:
        write_bytes_page(page_file, figures(typed_command(), seed, rows))
