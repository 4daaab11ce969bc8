"""`paramcast bench device`: measure answers, swaps, starts and memory of a device."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import opened, tell
from paramcast.cli.common import FOLDER, json_option, needs, seed_option


@click.command(name="device", context_settings={"show_default": True})
@click.option("--rounds", default=30, type=click.IntRange(1), help="Number of timed answers of each form.")
@click.option(
    "--model",
    "model_dirs",
    type=FOLDER,
    multiple=True,
    help="A trained model, to measure the accuracy of the int8 image encoder; may be repeated.",
)
@click.option("--data", type=FOLDER, help="Collection of --model.  [default: the demo world]")
@seed_option
@json_option
def command(
    rounds: int, model_dirs: tuple[Path, ...], data: Path | None, seed: int, json_file: Path | None
) -> None:
    """Measure a device: answers at base, adapted and baked, swaps, starts, memory, and a fine-tuning step."""
    with needs("paramcast bench device", "train"):
        from paramcast.bench.device import bench_device
        from paramcast.bench.rows import rows_table
        from paramcast.bench.trunks import trunk_accuracy_rows
        from paramcast.video.training.model import TrainedModel
    models = [TrainedModel.load(folder) for folder in model_dirs]
    rows = bench_device(seed, rounds)
    if models:
        rows += trunk_accuracy_rows(models, opened(data), seed)
    tell(rows_table(rows), rows, seed, json_file)
