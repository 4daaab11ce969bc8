"""`paramcast bench stream`: when to ask."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import (
    data_option,
    models_and_collection,
    models_option,
    seeds_option,
    shifts_option,
    tell,
)
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="stream", context_settings={"show_default": True})
@models_option
@data_option
@seeds_option
@click.option("--streams", default=6, type=click.IntRange(1), help="Streams for each model and shift.")
@shifts_option("a stream's domains", "vocabulary", "category+camera+vocabulary")
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
        from paramcast.bench.stream import bench_stream, stream_table
    models, collection = models_and_collection(model_dirs, data, range(seed, seed + seeds))
    rows = bench_stream(models, collection, streams=streams, seed=seed, shifts=shifts)
    tell(stream_table(rows), rows, seed, json_file)
