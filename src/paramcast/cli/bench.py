"""`paramcast bench`: measure the parts, each against something that is run beside it."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


@command.command(context_settings={"show_default": True})
@click.option(
    "--model", "model_dir", type=FOLDER, help="A trained model; else one is trained, for questions."
)
@click.option("--data", type=FOLDER, help="The collection.  [default: the demo world]")
@click.option("--devices", default=100, type=click.IntRange(2), help="Test devices under each shift.")
@seed_option
@json_option
def recovery(
    model_dir: Path | None, data: Path | None, devices: int, seed: int, json_file: Path | None
) -> None:
    """Evaluate under each shift, and all at once: how much of the oracle's gain is had with 8 clips."""
    with needs("paramcast bench recovery", "train"):
        from paramcast.bench.demo import FULL
        from paramcast.bench.figures import write_figures
        from paramcast.bench.recovery import bench_recovery
        from paramcast.bench.table import controls_table
        from paramcast.data.collection import Collection
        from paramcast.data.world import demo_world
        from paramcast.paths import cache_dir
        from paramcast.training.model import TrainedModel
        from paramcast.training.pipeline import TrainingOptions, train
    collection = Collection.open(data) if data else demo_world()
    if model_dir:
        model = TrainedModel.load(model_dir)
    else:
        out = cache_dir("runs") / f"recovery-{collection.name}-{seed}"
        model = train(collection, out, TrainingOptions("qa", seed=seed, frames=FULL.training.frames))
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
@click.option("--rounds", default=30, type=click.IntRange(1), help="Timed answers of each form.")
@seed_option
@json_option
def device(rounds: int, seed: int, json_file: Path | None) -> None:
    """Time a device: answers at base and adapted, swaps, a cold start."""
    with needs("paramcast bench device", "train"):
        from paramcast.bench.device import bench_device
        from paramcast.bench.figures import write_figures
        from paramcast.bench.rows import rows_table
    rows = bench_device(seed, rounds)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_figures(json_file, typed_command(), seed, rows)
