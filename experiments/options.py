"""Options and training that several experiments share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from paramcast.bench.demo import FULL, QUICK
from paramcast.bench.fleet_models import run_folder
from paramcast.cli.bench.options import opened
from paramcast.video.data.collection import Collection
from paramcast.video.training.options import TrainingOptions

devices_option = click.option(
    "--devices", default=100, type=click.IntRange(2), help="Test devices, with all shifts at once."
)
quick_option = click.option("--quick", is_flag=True, help="Smaller training: to see that it runs.")


def to_train(
    data: Path | None, task: str, quick: bool, seed: int
) -> tuple[Collection, TrainingOptions, Path]:
    """Return the collection, training options of the demo's size, and the folder of this training."""
    collection = opened(data)
    training = replace((QUICK if quick else FULL).training, task=task, seed=seed)
    return collection, training, run_folder("variants", collection, training)
