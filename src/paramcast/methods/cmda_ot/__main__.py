"""`python -m paramcast.methods.cmda_ot`: the benchmark of CMDA-OT."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from paramcast.figures import write_figures
from paramcast.methods.cmda_ot.baselines import FORESTS, METHODS
from paramcast.methods.cmda_ot.datasets import MGR_DOMAINS, OFFICE_DOMAINS, Problem, mgr, office
from paramcast.methods.commandline import json_option, run

PUBLISHED = {
    "pooled": (22.90, 38.25, 51.57, 47.80),
    "Sinkhorn, class-regularised": (58.02, 60.47, 66.55, 63.87),
    "WBT, regularised": (70.60, 83.10, 83.92, 90.00),
}
"""Of `mgr`, by target, with a random forest (README of eddardd/WBTransport); not measured here."""


def published() -> list[dict[str, Any]]:
    """The rows of `PUBLISHED`, which were not measured here."""
    targets = MGR_DOMAINS[1:]
    return [
        {"method": name, "accuracy": dict(zip(targets, each, strict=True)), "published": True}
        for name, each in PUBLISHED.items()
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--data", required=True, type=click.Choice(["office", "mgr"]), help="Set to measure on.")
@click.option("--target", "targets", multiple=True, help="Domain to adapt to; default: all of the protocol.")
@click.option(
    "--method", "names", multiple=True, type=click.Choice([*METHODS, *FORESTS]), help="Default: all."
)
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1), help="Number of seeds from 0 on."
)
@click.option(
    "--folds",
    default=5,
    show_default=True,
    type=click.IntRange(1, 5),
    help="Of `mgr`: how many of its folds.",
)
@json_option
def command(
    folder: Path,
    data: str,
    targets: tuple[str, ...],
    names: tuple[str, ...],
    seeds: int,
    folds: int,
    json_file: Path | None,
) -> None:
    """Accuracy on each target, on the data in FOLDER (`mgr` knows the target noiseless, too)."""
    torch.set_num_threads(1)
    known = OFFICE_DOMAINS if data == "office" else MGR_DOMAINS
    for target in targets:
        if target not in known:
            raise click.BadParameter(f"{target!r} is not a domain of {data}: {', '.join(known)}")
    wanted = {"targets": targets} if targets else {}
    every = (office if data == "office" else mgr)(folder, **wanted)
    problems = [problem for problem in every if problem.fold <= folds]
    chosen = {**METHODS, **(FORESTS if data == "mgr" else {})}
    rows = measure(problems, {name: chosen[name] for name in names or chosen if name in chosen}, seeds)
    for row in rows:
        figures = "  ".join(f"{name} {value:6.2f}" for name, value in row["accuracy"].items())
        click.echo(f"{row['method']:26}  {figures}")
    if json_file:
        asked = "".join(f" --method {name!r}" for name in names) + "".join(f" --target {t}" for t in targets)
        asked += f" --folds {folds}" if data == "mgr" else ""
        typed = f"python -m paramcast.methods.cmda_ot FOLDER --data {data} --seeds {seeds}{asked}"
        write_figures(json_file, typed, range(seeds), rows + (published() if data == "mgr" else []))


def measure(problems: list[Problem], methods: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """One row a method: mean accuracy in percent by target, over folds and seeds, and its deviation."""
    rows = []
    with tqdm(total=len(problems) * seeds * len(methods), unit="fit", disable=None) as bar:
        for name, method in methods.items():
            values: dict[str, list[float]] = defaultdict(list)
            for problem in problems:
                for seed in range(seeds):
                    values[problem.target].append(method(problem, seed))
                    bar.update()
            rows.append(
                {
                    "method": name,
                    "accuracy": {target: round(float(np.mean(each)), 2) for target, each in values.items()},
                    "deviation": {target: round(float(np.std(each)), 2) for target, each in values.items()},
                }
            )
    return rows


if __name__ == "__main__":
    run(command)
