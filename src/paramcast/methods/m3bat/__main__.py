"""`python -m paramcast.methods.m3bat`: adapt to your own tables."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from sklearn.metrics import mean_absolute_error

from paramcast.methods.commandline import json_option, run
from paramcast.methods.m3bat.estimators import M3BATClassifier, M3BATRegressor
from paramcast.methods.tables import Table, numbers, read_source, read_table, write_classes, write_numbers
from paramcast.results import write_results

_CSV = click.Path(path_type=Path, dir_okay=False)
_MOST_SHIFTED = 10


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Label a target by M3BAT with labeled sources whose sensors have different readings."""


@command.command()
@click.option(
    "--source",
    "sources",
    required=True,
    multiple=True,
    type=_CSV,
    help="CSV file of a source; repeat for each source.",
)
@click.option("--target", required=True, type=_CSV, help="CSV file of the target, with the sources' columns.")
@click.option("--label", default="label", show_default=True, help="Column to predict.")
@click.option(
    "--task",
    default="classes",
    show_default=True,
    type=click.Choice(["classes", "numbers"]),
    help="Kind of the labels.",
)
@click.option(
    "--modality",
    "modalities",
    multiple=True,
    metavar="NAME=COLUMN,...",
    help="Columns of one sensor; repeat for each sensor. Default: branches by shift.",
)
@click.option(
    "--out", required=True, type=_CSV, help="Write the predicted labels of the target to this CSV file."
)
@click.option("--plot", type=_CSV, help="Draw the shift of the features into this image.")
@click.option(
    "--steps", default=300, show_default=True, type=click.IntRange(1), help="Training steps of every network."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@json_option
def adapt(
    sources: tuple[Path, ...],
    target: Path,
    label: str,
    task: str,
    modalities: tuple[str, ...],
    out: Path,
    plot: Path | None,
    steps: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Label the rows of one table with the help of labeled tables, and print the shift of each column.

    Tables are CSV files: a line of names, then numbers. If the target has a column of labels, the column is
    used only for the score that is printed at the end.
    """
    torch.set_num_threads(1)
    asked, regression = read_table(target, label), task == "numbers"
    samples, labels = zip(*(read_source(path, label, asked) for path in sources), strict=True)
    known = [numbers(y, path, label) if regression else y for y, path in zip(labels, sources, strict=True)]
    # The labels at the target's rows are never read.
    y = np.concatenate([*known, np.full(len(asked.X), np.nan if regression else "")])
    domain = np.repeat([*range(1, len(sources) + 1), -1], [*map(len, known), len(asked.X)])
    kind: Any = M3BATRegressor if regression else M3BATClassifier
    model = kind(modalities=_modalities(modalities, asked), steps=steps, random_state=seed, progress=True)
    model.fit(np.concatenate([*samples, asked.X]), y, sample_domain=domain)
    shift = replace(model.shift_, features=asked.columns)
    click.echo(shift.text(_MOST_SHIFTED))
    if plot:
        shift.plot(plot)
    click.echo(
        f"strength of the alignment: {model.strength_:g}" + " (the source model)" * (not model.strength_)
    )
    if regression:
        write_numbers(out, label, model.predict(asked.X))
    else:
        write_classes(out, label, model.classes_, model.predict_proba(asked.X))
    row = {"target": target.name, "rows": len(asked.X), "strength": model.strength_}
    if asked.y is not None:
        name, value = _scored(model, asked.X, asked.y, target, label)
        row[name] = value
        click.echo(f"{name} on {target}: {value}")
    click.echo(f"{len(asked.X)} labels in {out}")
    if json_file:
        given = "".join(f" --source {path.name}" for path in sources)
        given += f" --target {target.name} --label {label} --task {task}"
        given += "".join(f" --modality {shlex.quote(each)}" for each in modalities)
        typed = (
            f"python -m paramcast.methods.m3bat adapt{given} --out {out.name} --steps {steps} --seed {seed}"
        )
        write_results(json_file, typed, seed, [row])


def _modalities(given: Sequence[str], table: Table) -> dict[str, list[int]] | None:
    """Parse NAME=COLUMN,... to name -> places of the columns; None if no modality is given."""
    found = {}
    for each in given:
        name, equals, columns = each.partition("=")
        unknown = [column for column in columns.split(",") if column not in table.columns]
        if not (name and equals) or unknown:
            why = (
                f"the tables have no column {unknown[0]!r}" if equals and unknown else "write NAME=COLUMN,..."
            )
            raise click.BadParameter(f"{each!r}: {why}", param_hint="--modality")
        found[name] = [table.columns.index(column) for column in columns.split(",")]
    return found or None


def _scored(model: Any, X: np.ndarray, y: np.ndarray, target: Path, label: str) -> tuple[str, float]:
    """Compute the accuracy in percent, or the mean absolute error, on the labels of the target's table."""
    if isinstance(model, M3BATClassifier):
        return "accuracy", round(100 * float(model.score(X, y)), 2)
    truth = numbers(y, target, label)
    return "mean absolute error", float(f"{mean_absolute_error(truth, model.predict(X)):.4g}")


if __name__ == "__main__":
    run(command)
