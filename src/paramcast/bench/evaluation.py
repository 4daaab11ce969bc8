"""Evaluation of a model's folder: tables for the terminal, a results file and a page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from paramcast.bench.ledger import measure_costs, runs_on_device
from paramcast.bench.report import write_report
from paramcast.bench.rows import evaluation_rows
from paramcast.bench.table import controls_table, costs_table
from paramcast.files import write_json
from paramcast.installed import install_command
from paramcast.results import results
from paramcast.video.data.collection import Collection
from paramcast.video.training.evaluate import Evaluation, evaluate
from paramcast.video.training.model import TrainedModel


def run_evaluation(
    model_dir: Path,
    data: Path,
    *,
    shift: str,
    devices: int,
    support_sizes: Sequence[int],
    seed: int,
    command: str,
    json_file: Path | None = None,
    report_file: Path | None = None,
    fleet_file: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a model, print the tables, and write the requested files.

    Args:
        model_dir: A model's folder, written by `paramcast train`.
        data: The collection's folder.
        shift: Shifts between devices; see `video.training.evaluate.evaluate`.
        devices: Number of test devices.
        support_sizes: Numbers of support clips of a device.
        seed: Seed of the devices.
        command: Name of this command in the results.
        json_file: File for the results; None: no file.
        report_file: File for the page; None: no file.
        fleet_file: File for the devices; None: no file.

    Returns:
        The results.

    Raises:
        InputError: The model, the collection or the shift cannot be used.
    """
    model, collection = TrainedModel.load(model_dir), Collection.open(data)
    evaluation = evaluate(
        model, collection, shift=shift, devices=devices, support_sizes=support_sizes, seed=seed
    )
    if fleet_file:
        evaluation.fleet.save(fleet_file)
    costs = _costs(model, data, evaluation, support_sizes)
    rows = evaluation_rows(evaluation.results, model.config.task, shift, costs)
    click.echo(controls_table(rows))
    if costs:
        click.echo("\n" + costs_table(rows))
    made = results(command, seed, rows)
    if json_file:
        write_json(json_file, made)
    if report_file:
        write_report(report_file, made, evaluation)
        click.echo(f"\nreport: {report_file}")
    return made


def _costs(
    model: TrainedModel, data: Path, evaluation: Evaluation, support_sizes: Sequence[int]
) -> dict[int, dict[str, Any]] | None:
    """Measure the cost ledger by support size; print the reason and return None where it is impossible."""
    if not runs_on_device(model):
        click.echo("no costs: this model cannot run on a device")
        return None
    if find_spec("uvicorn") is None:
        click.echo(f"no costs: they are measured on a server; {install_command('server')}")
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return measure_costs(model, data, evaluation.fleet, support_sizes, Path(scratch))
