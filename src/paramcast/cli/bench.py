"""`paramcast bench`: measure the parts, each against something that is run beside it."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command
from paramcast.files import write_json
from paramcast.paths import cache_dir


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


@command.command(context_settings={"show_default": True})
@seed_option
@json_option
def recovery(seed: int, json_file: Path | None) -> None:
    """Train on the demo world and evaluate under each shift: how much of the oracle's gain is had."""
    with needs("paramcast bench recovery", "train"):
        from paramcast.bench.figures import figures
        from paramcast.bench.recovery import SHIFTS, bench_recovery
        from paramcast.bench.table import controls_table
        from paramcast.data.world import demo_world
        from paramcast.training.pipeline import TrainingOptions
    rows = bench_recovery(
        demo_world(), cache_dir("runs") / f"recovery-{seed}", TrainingOptions("qa", seed=seed)
    )
    for shift in SHIFTS:
        click.echo(controls_table([row for row in rows if row["shift"] == shift]) + "\n")
    if json_file is not None:
        write_json(json_file, figures(typed_command(), seed, rows))


@command.command(context_settings={"show_default": True})
@click.option("--model", "model_dir", type=FOLDER, help="A trained model; else ones of the default sizes.")
@seed_option
@json_option
def service(model_dir: Path | None, seed: int, json_file: Path | None) -> None:
    """Load a real server over loopback: throughput, latency, and every form's bytes."""
    with needs("paramcast bench service", "cloud"):
        from paramcast.bench.figures import figures
        from paramcast.bench.rows import rows_table
        from paramcast.bench.service import bench_service
    rows = bench_service(model_dir, seed)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_json(json_file, figures(typed_command(), seed, rows))


@command.command(context_settings={"show_default": True})
@seed_option
@json_option
def device(seed: int, json_file: Path | None) -> None:
    """Time a device: answers at base and adapted, swaps, a cold start."""
    with needs("paramcast bench device", "train"):
        from paramcast.bench.device import bench_device
        from paramcast.bench.figures import figures
        from paramcast.bench.rows import rows_table
    rows = bench_device(seed)
    click.echo(rows_table(rows))
    if json_file is not None:
        write_json(json_file, figures(typed_command(), seed, rows))
