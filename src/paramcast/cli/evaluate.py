"""`paramcast evaluate`: evaluate adaptation on simulated devices, with its controls and its costs."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import (
    FILE,
    FOLDER,
    json_option,
    needs,
    refuse_given,
    seed_option,
    trained_model_option,
    typed_command,
)
from paramcast.cli.module import DevicesOrCount, evaluate_module, module_option


@click.command(name="evaluate", context_settings={"show_default": True})
@trained_model_option
@click.option("--data", type=FOLDER, help="Any collection; training clips are left out.")
@module_option
@click.option(
    "--devices",
    default=100,
    type=DevicesOrCount(2),
    help="Simulated test devices; with --module, a function that returns the devices.",
)
@click.option(
    "--shift",
    default="category",
    help="Difference between devices: none, category, camera, vocabulary, habits, collection; join "
    "several by +.",
)
@click.option(
    "--support",
    "support_sizes",
    multiple=True,
    type=click.IntRange(1, 64),
    help="Number of clips to adapt with; may be repeated.  [default: 1, 2, 4, 8, 16]",
)
@seed_option
@json_option
@click.option("--report", "report_file", type=FILE, help="Write a page with tables and plots to this file.")
@click.option(
    "--fleet",
    "fleet_file",
    type=FILE,
    help="Write the test devices to this file, so that others can run them again.",
)
def command(
    model_dir: Path,
    data: Path | None,
    module: str | None,
    devices: int | str,
    shift: str,
    support_sizes: tuple[int, ...],
    seed: int,
    json_file: Path | None,
    report_file: Path | None,
    fleet_file: Path | None,
) -> None:
    """Score test devices without adaptation, with their own packages, and with packages of the controls."""
    if module:
        refuse_given(("data", "shift", "fleet_file"), "--module")
        evaluate_module(module, devices, model_dir, support_sizes, seed, json_file, report_file)
        return
    if data is None or isinstance(devices, str):
        raise click.UsageError("give --data, or --module and --devices FILE.py:FUNCTION")
    with needs("paramcast evaluate", "train"):
        from paramcast.bench.evaluation import run_evaluation
        from paramcast.video.training.episodes import SUPPORT_SIZES
    run_evaluation(
        model_dir,
        data,
        shift=shift,
        devices=devices,
        support_sizes=sorted(set(support_sizes)) or SUPPORT_SIZES,
        seed=seed,
        command=typed_command(),
        json_file=json_file,
        report_file=report_file,
        fleet_file=fleet_file,
    )
