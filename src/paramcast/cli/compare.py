"""`paramcast compare`: other methods on the same devices, tuned in the same way, with their costs."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import (
    FILE,
    json_option,
    needs,
    out_option,
    parts_folder,
    seed_option,
    test_data_option,
    trained_model_option,
    trained_on_option,
    typed_command,
)
from paramcast.files import write_json


@click.command(name="compare", context_settings={"show_default": True})
@trained_model_option
@test_data_option
@trained_on_option
@click.option("--methods", default="all", help="Names separated by commas, or all: the methods of the task.")
@click.option("--devices", default=100, type=click.IntRange(2), help="Simulated test devices.")
@click.option("--shift", default="category", help="Difference between devices, as in `paramcast evaluate`.")
@click.option("--support", default=8, type=click.IntRange(1, 64), help="Number of clips to adapt with.")
@click.option(
    "--labels",
    default=16,
    type=click.IntRange(1),
    help="Labels of each device for knn, lora, fedavg_ft and mm_adapter.",
)
@seed_option
@json_option
@click.option("--html", "html_file", type=FILE, help="Write a page with tables and plots to this file.")
@out_option
def command(
    model_dir: Path,
    data: Path,
    trained_on: Path | None,
    methods: str,
    devices: int,
    shift: str,
    support: int,
    labels: int,
    seed: int,
    json_file: Path | None,
    html_file: Path | None,
    out: Path | None,
) -> None:
    """Score other methods on the devices that `paramcast evaluate` scores, and list their costs.

    The settings of each method are chosen on validation devices, among at most six candidates.
    """
    with needs("paramcast compare", "train"), needs("paramcast compare", "methods"):
        from paramcast.bench.compare import CompareOptions, compare, compare_rows
        from paramcast.bench.report.compare import write_comparison
        from paramcast.bench.table import methods_table
        from paramcast.methods.registry import chosen
        from paramcast.results import results
        from paramcast.video.data.collection import Collection
        from paramcast.video.training.model import TrainedModel
    model, collection = TrainedModel.load(model_dir), Collection.open(data)
    names = chosen(methods, model.config.task)
    options = CompareOptions(shift, devices, support, labels, seed)
    before = Collection.open(trained_on) if trained_on else collection
    with parts_folder(out, json_file) as folder:
        outcomes = compare(model, collection, before, names, options, folder)
    rows = compare_rows(outcomes, model.config.task, options)
    click.echo(methods_table(rows))
    made = results(typed_command(), seed, rows)
    if json_file:
        write_json(json_file, made)
    if html_file:
        write_comparison(html_file, made)
        click.echo(f"\nreport: {html_file}")
