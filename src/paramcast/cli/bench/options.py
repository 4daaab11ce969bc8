"""Options of the commands of `paramcast bench`, and the models and collections that they measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.decorators import FC

from paramcast.cli.common import FOLDER, typed_command

if TYPE_CHECKING:
    from paramcast.video.data.collection import Collection
    from paramcast.video.training.model import TrainedModel

task_option = click.option(
    "--task", default="qa", type=click.Choice(["qa", "retrieval"]), help="Task of the devices."
)
data_option = click.option("--data", type=FOLDER, help="The collection.  [default: the demo world]")
model_option = click.option(
    "--model", "model_dir", type=FOLDER, help="A trained model.  [default: one is trained]"
)
models_option = click.option(
    "--model", "model_dirs", type=FOLDER, multiple=True, help="A trained model; may be repeated."
)
seeds_option = click.option(
    "--seeds", default=3, type=click.IntRange(1), help="Number of models to train, if none is given."
)


def shifts_option(whose: str, *default: str) -> Callable[[FC], FC]:
    """Make the option `--shift`, which may be given several times.

    Args:
        whose: Plural noun for the help text: the things that differ by the shift.
        default: Shifts that are used if the option is not given.
    """
    told = f"Difference between {whose}; may be repeated."
    return click.option("--shift", "shifts", multiple=True, default=default, help=told)


def opened(data: Path | None) -> Collection:
    """Open the collection in a folder, or make the demo world if there is no folder."""
    from paramcast.video.data.collection import Collection
    from paramcast.video.world import demo_world

    return Collection.open(data) if data else demo_world()


def models_and_collection(
    folders: Sequence[Path], data: Path | None, seeds: Iterable[int], task: str = "qa"
) -> tuple[list[TrainedModel], Collection]:
    """Return the models in `folders`, else a model trained for each seed, and their collection.

    Raises:
        ModelError: A folder holds no model. This is raised before a demo world is made.
    """
    from paramcast.bench.fleet_models import demo_sized_models
    from paramcast.video.training.model import TrainedModel

    models = [TrainedModel.load(folder) for folder in folders]
    collection = opened(data)
    return models or demo_sized_models(collection, seeds, task), collection


def tell(table: str, rows: Sequence[Mapping[str, Any]], seed: int, json_file: Path | None) -> None:
    """Print the table of a measurement, and write its results if a file is given."""
    from paramcast.results import write_results

    click.echo(table)
    if json_file is not None:
        write_results(json_file, typed_command(), seed, rows)
