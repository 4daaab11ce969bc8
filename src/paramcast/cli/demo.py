"""`paramcast demo`: run the whole loop on a generated world."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command
from paramcast.files import write_json


@click.command(name="demo", context_settings={"show_default": True})
@click.option(
    "--devices", default=20, type=click.IntRange(2, 1000), help="Number of devices, each in its own process."
)
@click.option(
    "--out", type=FOLDER, help="Folder for all files.  [default: runs/demo, or runs/demo-quick with --quick]"
)
@click.option(
    "--quick", is_flag=True, help="Train far too little to adapt; this only shows that everything runs."
)
@seed_option
@json_option
def command(devices: int, out: Path | None, quick: bool, seed: int, json_file: Path | None) -> None:
    """Make a world, train, export, serve, adapt devices over HTTP, and evaluate with controls.

    A demo that was stopped resumes where it stopped.
    """
    with needs("paramcast demo", "train,server"):
        import uvicorn  # noqa: F401  a separate process needs it; fail before the training if it is missing

        from paramcast.bench.demo import FULL, QUICK, run_demo
    signal.signal(signal.SIGTERM, _leave)
    size = QUICK if quick else FULL
    folder = out or Path("runs") / ("demo-quick" if quick else "demo")
    figures = run_demo(folder, size.of(devices, seed), typed_command())
    if json_file:
        write_json(json_file, figures)


def _leave(number: int, frame: FrameType | None) -> None:
    """Exit by an exception, so that the started processes end too."""
    sys.exit(128 + number)
