"""What commands of `paramcast bench` share: options, and the training that they are about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paramcast.cli.common import FOLDER

if TYPE_CHECKING:
    from paramcast.data.collection import Collection
    from paramcast.training.options import TrainingOptions

task_option = click.option(
    "--task", default="qa", type=click.Choice(["qa", "retrieval"]), help="What devices do."
)
devices_option = click.option(
    "--devices", default=100, type=click.IntRange(2), help="Test devices, with all shifts at once."
)
data_option = click.option("--data", type=FOLDER, help="The collection.  [default: the demo world]")
quick_option = click.option("--quick", is_flag=True, help="Smaller training: to see that it runs.")


def to_train(
    data: Path | None, task: str, quick: bool, seed: int
) -> tuple[Collection, TrainingOptions, Path]:
    """The collection, training of the demo's size, and the folder that is for it."""
    from paramcast.bench.demo import FULL, QUICK
    from paramcast.bench.fleet_models import run_folder
    from paramcast.data.collection import Collection
    from paramcast.data.world import demo_world

    collection = Collection.open(data) if data else demo_world()
    training = replace((QUICK if quick else FULL).training, task=task, seed=seed)
    return collection, training, run_folder("variants", collection, training)
