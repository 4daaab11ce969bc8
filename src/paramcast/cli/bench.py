"""`paramcast bench`: measure the parts, each against something that is run beside it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paramcast.cli.common import (
    FILE,
    FOLDER,
    json_option,
    needs,
    seed_option,
    test_data_option,
    trained_model_option,
    trained_on_option,
    typed_command,
)

if TYPE_CHECKING:
    from paramcast.data.collection import Collection
    from paramcast.training.options import TrainingOptions


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


@command.command(context_settings={"show_default": True})
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
def recovery(
    model_dir: Path | None, task: str, data: Path | None, devices: int, seed: int, json_file: Path | None
) -> None:
    """Evaluate under each shift, and all at once: how much of the oracle's gain is had with 8 clips."""
    with needs("paramcast bench recovery", "train"):
        from paramcast.bench.figures import write_figures
        from paramcast.bench.recovery import bench_recovery
        from paramcast.bench.table import controls_table
        from paramcast.training.model import TrainedModel
        from paramcast.training.pipeline import train

        collection, training, variants = _to_train(data, task, False, seed)
    if model_dir:
        model = TrainedModel.load(model_dir)
    else:
        model = train(collection, variants.with_name(variants.name.replace("variants", "recovery")), training)
    rows = bench_recovery(model, collection, devices=devices, seed=seed)
    click.echo("\n\n".join(controls_table([row]) for row in rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(context_settings={"show_default": True})
@click.option("--model", "model_dir", type=FOLDER, help="A trained model; else ones of the default sizes.")
@click.option("--seconds", default=4.0, type=click.FloatRange(0.5), help="Length of each load.")
@seed_option
@json_option
def service(model_dir: Path | None, seconds: float, seed: int, json_file: Path | None) -> None:
    """Load a real server over loopback: throughput, latency, and every form's bytes."""
    with needs("paramcast bench service", "train,cloud"):
        import uvicorn  # noqa: F401  the service is a process of its own; better to know before it is started

        from paramcast.bench.figures import write_figures
        from paramcast.bench.rows import rows_table
        from paramcast.bench.service import bench_service
    rows = bench_service(model_dir, seed, seconds)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(context_settings={"show_default": True})
@click.option("--seconds", default=300.0, type=click.FloatRange(5), help="Length of the load.")
@click.option("--rate", default=500.0, type=click.FloatRange(1), help="Signed requests a second.")
@seed_option
@json_option
def soak(seconds: float, rate: float, seed: int, json_file: Path | None) -> None:
    """Load a real server for minutes: does its memory stay flat, is everything answered."""
    with needs("paramcast bench soak", "train,cloud"):
        from paramcast.bench.figures import write_figures
        from paramcast.bench.rows import rows_table
        from paramcast.bench.soak import bench_soak
    rows = bench_soak(seconds, rate, seed)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(context_settings={"show_default": True})
@click.option("--state", help="An empty state: a file or a URL.  [default: a temporary SQLite file]")
@click.option(
    "--devices",
    "sizes",
    multiple=True,
    default=(100, 10_000, 1_000_000),
    type=click.IntRange(32),
    help="Devices known, rising; may be given several times.",
)
@seed_option
@json_option
def registry(state: str | None, sizes: tuple[int, ...], seed: int, json_file: Path | None) -> None:
    """Time an adaptation with few devices known and with many, signed and recorded."""
    with needs("paramcast bench registry", "train,cloud"):
        from paramcast.bench.figures import write_figures
        from paramcast.bench.registry import bench_registry
        from paramcast.bench.rows import rows_table
    rows = bench_registry(state, seed, sorted(sizes))
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(context_settings={"show_default": True})
@click.option("--rounds", default=30, type=click.IntRange(1), help="Timed answers of each form.")
@click.option(
    "--model",
    "model_dirs",
    type=FOLDER,
    multiple=True,
    help="A trained model, to see what the int8 trunk costs in accuracy; may be repeated.",
)
@click.option("--data", type=FOLDER, help="The collection of --model.  [default: the demo world]")
@seed_option
@json_option
def device(
    rounds: int, model_dirs: tuple[Path, ...], data: Path | None, seed: int, json_file: Path | None
) -> None:
    """Time a device: answers at base, adapted and baked; swaps, starts, memory, and a step of fine-tuning."""
    with needs("paramcast bench device", "train"):
        from paramcast.bench.device import bench_device
        from paramcast.bench.figures import write_figures
        from paramcast.bench.rows import rows_table
        from paramcast.bench.trunks import trunk_accuracy_rows
        from paramcast.data.collection import Collection
        from paramcast.data.world import demo_world
        from paramcast.training.model import TrainedModel
    models = [TrainedModel.load(folder) for folder in model_dirs]
    rows = bench_device(seed, rounds)
    if models:
        rows += trunk_accuracy_rows(models, Collection.open(data) if data else demo_world(), seed)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(context_settings={"show_default": True})
@trained_model_option
@test_data_option
@trained_on_option
@click.option(
    "--shift",
    "shifts",
    multiple=True,
    default=("none", "category", "camera", "vocabulary"),
    help="What devices differ in; may be given several times.",
)
@click.option("--devices", default=40, type=click.IntRange(2), help="Test devices under each shift.")
@click.option(
    "--labelled",
    default=40,
    type=click.IntRange(8, 64),
    help="Clips of a device, all of whose labels fine-tuning has.",
)
@seed_option
@json_option
@click.option(
    "--out", type=FOLDER, help="Keeps what is done, so that a stopped run goes on.  [default: beside --json]"
)
def headroom(
    model_dir: Path,
    data: Path,
    trained_on: Path | None,
    shifts: tuple[str, ...],
    devices: int,
    labelled: int,
    seed: int,
    json_file: Path | None,
    out: Path | None,
) -> None:
    """Map where there is something to gain: the oracle, and fine-tuning on all labels of many clips."""
    with needs("paramcast bench headroom", "train"), needs("paramcast bench headroom", "methods"):
        from paramcast.bench.figures import write_figures
        from paramcast.bench.headroom import bench_headroom, headroom_table
        from paramcast.data.collection import Collection
        from paramcast.training.model import TrainedModel
    model, collection = TrainedModel.load(model_dir), Collection.open(data)
    before = Collection.open(trained_on) if trained_on else collection
    kept = out or (json_file.with_suffix(".parts") if json_file else None)
    with tempfile.TemporaryDirectory() as scratch:
        rows = bench_headroom(
            model,
            collection,
            before,
            shifts=shifts,
            devices=devices,
            labelled_clips=labelled,
            seed=seed,
            folder=kept or Path(scratch),
        )
    click.echo(headroom_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(context_settings={"show_default": True})
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
def stream(
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


task_option = click.option(
    "--task", default="qa", type=click.Choice(["qa", "retrieval"]), help="What devices do."
)
devices_option = click.option(
    "--devices", default=100, type=click.IntRange(2), help="Test devices, with all shifts at once."
)
data_option = click.option("--data", type=FOLDER, help="The collection.  [default: the demo world]")
quick_option = click.option("--quick", is_flag=True, help="Smaller training: to see that it runs.")


@command.command(context_settings={"show_default": True})
@data_option
@task_option
@devices_option
@quick_option
@seed_option
@json_option
def adr(data: Path | None, task: str, devices: int, quick: bool, seed: int, json_file: Path | None) -> None:
    """Does the ADR earn its bytes: its intervals, and gains without it, with it and with whole clips.

    A run that was stopped goes on where it was.
    """
    with needs("paramcast bench adr", "train"):
        from paramcast.bench.adr import bench_adr
        from paramcast.bench.figures import write_figures
        from paramcast.bench.rows import rows_table

        training = _to_train(data, task, quick, seed)
    rows = bench_adr(*training, devices=devices, seed=seed)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)


@command.command(name="bytes", context_settings={"show_default": True})
@data_option
@task_option
@devices_option
@quick_option
@seed_option
@json_option
@click.option("--html", "page_file", type=FILE, help="Write a page with a chart to this file.")
def bytes_(
    data: Path | None,
    task: str,
    devices: int,
    quick: bool,
    seed: int,
    json_file: Path | None,
    page_file: Path | None,
) -> None:
    """Accuracy against bytes: every form of package in every quantisation.

    A run that was stopped goes on where it was.
    """
    with needs("paramcast bench bytes", "train"):
        from paramcast.bench.bytes import bench_bytes, bytes_table, verdict
        from paramcast.bench.figures import figures, write_figures
        from paramcast.bench.report.bytes import write_bytes_page

        training = _to_train(data, task, quick, seed)
    rows = bench_bytes(*training, devices=devices, seed=seed)
    click.echo(f"{bytes_table(rows)}\n\n{verdict(rows)}")
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)
    if page_file is not None:
        write_bytes_page(page_file, figures(typed_command(), seed, rows))


def _to_train(
    data: Path | None, task: str, quick: bool, seed: int
) -> tuple[Collection, TrainingOptions, Path]:
    """The collection, training of the demo's size, and the folder that is for it."""
    from paramcast.bench.demo import FULL, QUICK
    from paramcast.data.collection import Collection
    from paramcast.data.world import demo_world
    from paramcast.paths import cache_dir

    collection = Collection.open(data) if data else demo_world()
    training = replace((QUICK if quick else FULL).training, task=task, seed=seed)
    size = f"{training.frames}-{training.devices}-{training.adaptor_steps}"
    return collection, training, cache_dir("runs") / f"variants-{collection.name}-{task}-{size}-{seed}"
