"""`python -m paramcast.methods.cmda_ot`: the benchmark of CMDA-OT."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from paramcast import __version__
from paramcast.errors import ParamcastError
from paramcast.files import write_json
from paramcast.methods.cmda_ot.baselines import FORESTS, METHODS
from paramcast.methods.cmda_ot.datasets import MGR_DOMAINS, OFFICE_DOMAINS, Problem, mgr, office

PUBLISHED = {
    "pooled": (22.90, 38.25, 51.57, 47.80),
    "Sinkhorn, class-regularised": (58.02, 60.47, 66.55, 63.87),
    "WBT, regularised": (70.60, 83.10, 83.92, 90.00),
}
"""Of `mgr`, by target, with a random forest (README of eddardd/WBTransport); not measured here."""


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
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
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
        write_json(json_file, report(typed, seeds, rows, data))


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


def report(typed: str, seeds: int, rows: list[dict[str, Any]], data: str) -> dict[str, Any]:
    """The figures file."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
    machine = {"cpu": platform.machine(), "system": platform.system(), "python": platform.python_version()}
    extra = {"published": {n: dict(zip(MGR_DOMAINS[1:], v, strict=True)) for n, v in PUBLISHED.items()}}
    about = {"command": typed, "version": __version__, "commit": commit, "seed": list(range(seeds))}
    return {**about, "machine": machine, "rows": rows, **(extra if data == "mgr" else {})}


def main() -> None:
    """Run the command; what the user can mend is one line, without a traceback."""
    try:
        command()
    except ParamcastError as error:
        click.echo(f"cmda_ot: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
