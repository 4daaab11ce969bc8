"""`paramcast bench recovery`: what of the oracle's gain is had."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command


@click.command(name="recovery", context_settings={"show_default": True})
@click.option("--model", "model_dir", type=FOLDER, help="A trained model; else one is trained.")
@click.option(
    "--task",
    default="qa",
    type=click.Choice(["qa", "choice", "retrieval"]),
    help="What the model is trained for, where none is given.",
)
@click.option("--data", type=FOLDER, help="The collection.  [default: the demo world]")
@click.option("--devices", default=100, type=click.IntRange(2), help="Test devices under each shift.")
@seed_option
@json_option
def command(
    model_dir: Path | None, task: str, data: Path | None, devices: int, seed: int, json_file: Path | None
) -> None:
    """Evaluate under each shift, and all at once: how much of the oracle's gain is had with 8 clips."""
    with needs("paramcast bench recovery", "train"):
        from paramcast.bench.figures import write_figures
        from paramcast.bench.fleet_models import demo_sized_models
        from paramcast.bench.recovery import bench_recovery
        from paramcast.bench.table import controls_table
        from paramcast.data.collection import Collection
        from paramcast.data.world import demo_world
    collection = Collection.open(data) if data else demo_world()
    (model,) = demo_sized_models(collection, [model_dir] if model_dir else [], [seed], task)
    rows = bench_recovery(model, collection, devices=devices, seed=seed)
    click.echo("\n\n".join(controls_table([row]) for row in rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)
