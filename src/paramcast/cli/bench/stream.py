"""`paramcast bench stream`: when to ask."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command


@click.command(name="stream", context_settings={"show_default": True})
@click.option("--model", "model_dirs", type=FOLDER, multiple=True, help="A trained model; may be repeated.")
@click.option("--data", type=FOLDER, help="The collection.  [default: the demo world]")
@click.option("--seeds", default=3, type=click.IntRange(1), help="Models to train, where none is given.")
@click.option("--streams", default=6, type=click.IntRange(1), help="Streams for each model and shift.")
@click.option(
    "--shift",
    "shifts",
    multiple=True,
    default=("vocabulary", "category+camera+vocabulary"),
    help="What a stream's domains differ in; may be given several times.",
)
@seed_option
@json_option
def command(
    model_dirs: tuple[Path, ...],
    data: Path | None,
    seeds: int,
    streams: int,
    shifts: tuple[str, ...],
    seed: int,
    json_file: Path | None,
) -> None:
    """When to ask: policies on streams whose domain changes at times that the device does not know."""
    with needs("paramcast bench stream", "train"):
        from paramcast.bench.figures import write_figures
        from paramcast.bench.fleet_models import demo_sized_models
        from paramcast.bench.stream import bench_stream, stream_table
        from paramcast.data.collection import Collection
        from paramcast.data.world import demo_world
    collection = Collection.open(data) if data else demo_world()
    models = demo_sized_models(collection, model_dirs, range(seed, seed + seeds))
    rows = bench_stream(models, collection, streams=streams, seed=seed, shifts=shifts)
    click.echo(stream_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)
