"""`python -m experiments architectures`: all steps for every model, each in its own process, and a table."""

from __future__ import annotations

import json
import multiprocessing
import os
import warnings
from pathlib import Path
from typing import Any

import click

from paramcast.results import commit, write_results

FAMILIES = ("torch", "transformers", "timm", "torchvision", "open_clip")
SECONDS = 600
"""Time limit of a model's process."""


@click.command("architectures")
@click.option("--only", default="", help="Models whose name has this in it.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Results file; models that passed in it are not run again.",
)
def command(only: str, json_file: Path | None) -> None:
    """Take tiny models of many architectures through the whole public API: train, export, serve, adapt."""
    _prepared()
    models = _models()
    known = _passed(json_file)
    rows = [known[name] for name in models if name in known]
    told = f"experiments architectures{f' --only {only}' if only else ''}"
    for name in models:
        if only not in name or name in known:
            continue
        row = _in_process(name) | {"commit": commit()}
        rows = sorted([*rows, row], key=lambda each: models.index(each["model"]))
        why = "" if row["passed"] else f"  at {row['at']}: {row.get('error')}: {row.get('reason', '')}"
        if json_file:  # after each model, since a sweep takes half an hour
            write_results(json_file, told, 0, rows)
        click.echo(f"{'passed' if row['passed'] else 'NOT   '} {row.get('seconds', 0):6} s  {name}{why}")
    click.echo(f"{sum(row['passed'] for row in rows)} of {len(rows)} passed the whole road")


def _passed(json_file: Path | None) -> dict[str, dict[str, Any]]:
    """Return the rows of models that passed in an earlier run."""
    if json_file is None or not json_file.exists():
        return {}
    rows = json.loads(json_file.read_text(encoding="utf-8"))["rows"]
    return {row["model"]: row for row in rows if row["passed"]}


def _models() -> list[str]:
    from experiments.architectures import (  # noqa: F401  # they register
        language,
        layered,
        plain,
        senses,
        sounds,
        vision,
        writers,
    )
    from experiments.architectures.registry import MODELS

    return sorted(MODELS, key=lambda name: FAMILIES.index(name.split()[0]))


def _prepared() -> None:
    """Import once the modules that every model's process needs."""
    warnings.simplefilter("ignore")
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    import torch

    torch.set_num_threads(1)
    import transformers  # noqa: F401

    import paramcast.training.evaluation
    import paramcast.training.export
    import paramcast.training.report
    import paramcast.training.trainer  # noqa: F401
    from experiments.architectures import road  # noqa: F401
    from experiments.architectures.vision import import_torchvision

    import_torchvision()


def _in_process(name: str) -> dict[str, Any]:
    """Run a model in its own process, so that its changes to libraries affect no other model."""
    from experiments.architectures.road import walk

    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def work() -> None:
        writer.send(walk(name))

    process = context.Process(target=work)
    process.start()
    writer.close()
    try:
        if reader.poll(SECONDS):
            row: dict[str, Any] = reader.recv()
            return row
        return {"model": name, "passed": False, "at": "?", "error": "Timeout", "seconds": SECONDS}
    except EOFError:
        return {"model": name, "passed": False, "at": "?", "error": "Crash", "seconds": 0}
    finally:
        process.kill()
        process.join()
