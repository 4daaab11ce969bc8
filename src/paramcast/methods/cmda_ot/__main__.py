"""`python -m paramcast.methods.cmda_ot`: adapt to your own tables."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from paramcast.methods.cmda_ot.estimator import CMDAOT
from paramcast.methods.commandline import json_option, run
from paramcast.methods.tables import read_source, read_table, write_classes
from paramcast.results import write_results

_CSV = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Label a target by CMDA-OT with several labeled sources, which do not share their samples.

    To run every source in its own process: python -m paramcast.methods.cmda_ot.flower
    """


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
@click.option(
    "--label", default="label", show_default=True, help="Column of the sources that holds the class."
)
@click.option(
    "--out", required=True, type=_CSV, help="Write the target's classes and probabilities to this CSV file."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@json_option
def adapt(
    sources: tuple[Path, ...], target: Path, label: str, out: Path, seed: int, json_file: Path | None
) -> None:
    """Label the rows of one table with the help of several labeled tables.

    Tables are CSV files: a line of names, then numbers. If the target has a column of labels, the column is
    used only for the accuracy that is printed at the end.
    """
    torch.set_num_threads(1)
    asked = read_table(target, label)
    X, y, domain = [asked.X], [np.full(len(asked.X), "")], [np.full(len(asked.X), -1)]
    for number, path in enumerate(sources, start=1):
        samples, labels = read_source(path, label, asked)
        X.append(samples)
        y.append(labels)
        domain.append(np.full(len(samples), number))
    stacked, numbers = np.concatenate(X), np.concatenate(domain)
    model = CMDAOT(random_state=seed).fit(stacked, np.concatenate(y), sample_domain=numbers)
    write_classes(out, label, model.classes_, model.predict_proba(asked.X))
    for number, path in enumerate(sources, start=1):
        click.echo(f"{path}: {_part(model, str(number))}")
    row = {"target": target.name, "rows": len(asked.X), "accuracy": None}
    if asked.y is not None:
        row["accuracy"] = round(100 * float(model.score(asked.X, asked.y)), 2)
        click.echo(f"accuracy on {target}: {row['accuracy']} %")
    click.echo(f"{len(asked.X)} labels in {out}")
    if json_file:
        given = "".join(f" --source {path.name}" for path in sources)
        typed = f"python -m paramcast.methods.cmda_ot adapt{given} --target {target.name} --label {label}"
        write_results(json_file, f"{typed} --out {out.name} --seed {seed}", seed, [row])


def _part(model: CMDAOT, client: str) -> str:
    """Describe what a source did."""
    failed = [each for each in model.left_out_ if each.client == client]
    if client not in model.scores_:
        return f"left out in {failed[-1].step}: {failed[-1].reason}"
    moved = "moved to the target" if model.transported_[client] else "used without changes"
    return f"{moved}; agrees with {100 * model.scores_[client]:.1f} % of the surest pseudo-labels"


if __name__ == "__main__":
    run(command)
