"""`python -m experiments cmda_ot`: CMDA-OT and its baselines, target by target."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from experiments.methods.cmda_ot.baselines import GROUPS, Method
from experiments.methods.cmda_ot.datasets import MGR_DOMAINS, Problem, mgr, office
from experiments.methods.cmda_ot.selection import digits, noiseless, wisdm, words
from paramcast.files import check_same_run, write_bytes
from paramcast.methods.commandline import json_option
from paramcast.results import commit, write_results
from paramcast.training.statistics import over_seeds

PUBLISHED = {
    "pooled": (22.90, 38.25, 51.57, 47.80),
    "TCA": (58.95, 60.67, 68.75, 59.82),
    "Sinkhorn": (56.35, 61.92, 66.72, 61.77),
    "Sinkhorn, class-regularized": (58.02, 60.47, 66.55, 63.87),
    "JCPOT": (35.87, 48.47, 51.92, 51.95),
    "WBT, regularized": (70.60, 83.10, 83.92, 90.00),
    "target only": (67.43, 67.96, 66.86, 68.37),
}
"""Results on `mgr`, by target, with a random forest (README of eddardd/WBTransport); not measured here."""

SETS: dict[str, Callable[[Path], Iterator[Problem]]] = {
    "office": office,
    "mgr": mgr,
    "noiseless": noiseless,
    "digits": digits,
    "wisdm": wisdm,
    "words": words,
}
"""The benchmarks, then the sets on which settings were chosen."""


def published() -> list[dict[str, Any]]:
    """Make the rows of `PUBLISHED`, which were not measured here."""
    targets = MGR_DOMAINS[1:]
    return [
        {"method": name, "mean": dict(zip(targets, each, strict=True)), "published": True}
        for name, each in PUBLISHED.items()
    ]


@click.command(name="cmda_ot")
@click.option("--data", required=True, type=click.Choice(list(SETS)), help="Benchmark, or set for choosing.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the set's files are; `digits` needs none.  [default: this one]",
)
@click.option(
    "--group",
    default="main",
    show_default=True,
    type=click.Choice(list(GROUPS)),
    help="Methods: CMDA-OT and baselines; its ablations; baselines with a random forest.",
)
@click.option("--method", "names", multiple=True, help="One method of the group; default: all of them.")
@click.option("--target", "targets", multiple=True, help="Domain to adapt to; default: all of the protocol.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many, from 0.")
@json_option
def command(
    data: str,
    folder: Path,
    group: str,
    names: tuple[str, ...],
    targets: tuple[str, ...],
    seeds: int,
    json_file: Path | None,
) -> None:
    """Measure the accuracy of CMDA-OT and its baselines on every target of a set.

    office and mgr are the benchmarks; settings were chosen on the other four. With --json, a stopped run is
    resumed.
    """
    torch.set_num_threads(1)
    methods = _chosen(GROUPS[group], names, "method")
    problems = list(SETS[data](folder))
    wanted = _chosen(dict.fromkeys(problem.target for problem in problems), targets, "target")
    problems = [problem for problem in problems if problem.target in wanted]
    asked = "".join(f" --method {name!r}" for name in names) + "".join(f" --target {t}" for t in targets)
    typed = f"python -m experiments cmda_ot --data {data} --group {group} --seeds {seeds}{asked}"
    kept = json_file and json_file.with_suffix(".runs")
    rows = measure(problems, methods, seeds, Runs(kept, {"command": typed, "commit": commit()}))
    width = max(len(name) for name in methods)
    click.echo(f"{'accuracy, %':{width}}  " + "  ".join(f"{name:>15}" for name in wanted))
    for row in rows:
        click.echo(f"{row['method']:{width}}  " + "  ".join(f"{v:15.2f}" for v in row["mean"].values()))
    if json_file and kept:
        write_results(json_file, typed, range(seeds), rows + (published() if data == "mgr" else []))
        kept.unlink()


class Runs:
    """Accuracies by method, target, fold and seed, in a file with one line each, to resume a killed run.

    Args:
        path: Created if it is missing; None: nothing is kept.
        run: Everything that distinguishes runs.

    Raises:
        InputError: The file is of another run.
    """

    def __init__(self, path: Path | None, run: Mapping[str, Any]) -> None:
        self._path, self._known = path, dict[tuple[Any, ...], float]()
        if path is None:
            return
        if path.exists():
            # A killed run may leave a line without its end.
            first, *lines = [
                json.loads(line) for line in path.read_text().splitlines(True) if line[-1] == "\n"
            ]
            check_same_run(path, "runs", first, run)
            self._known = {tuple(key): value for *key, value in lines}
        else:
            lines, first = [], run
        write_bytes(path, "".join(json.dumps(line) + "\n" for line in [first, *lines]).encode())

    def accuracy(self, name: str, method: Method, problem: Problem, seed: int) -> float:
        """Return the accuracy in percent; it is measured unless it is known."""
        key = (name, problem.target, problem.fold, seed)
        if key not in self._known:
            self._known[key] = round(method(problem, seed), 2)
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps([*key, self._known[key]]) + "\n")
        return self._known[key]


def measure(
    problems: Sequence[Problem], methods: Mapping[str, Method], seeds: int, runs: Runs
) -> list[dict[str, Any]]:
    """Make a row for each method: by target, mean accuracy in percent, interval over seeds, and all runs."""
    rows = []
    with tqdm(total=len(problems) * seeds * len(methods), unit="fit", disable=None) as bar:
        for name, method in methods.items():
            values: dict[str, list[float]] = defaultdict(list)
            for problem in problems:
                for seed in range(seeds):
                    values[problem.target].append(runs.accuracy(name, method, problem, seed))
                    bar.update()
            rows.append(row(name, values, seeds))
    return rows


def row(method: str, runs: Mapping[str, Sequence[float]], seeds: int) -> dict[str, Any]:
    """Make the row of a method: by target, the mean of its runs, and an interval over seeds.

    Args:
        method: Its name.
        runs: Target -> accuracies in percent, fold by fold, each with all seeds in turn.
        seeds: Number of seeds.
    """
    over = {target: over_seeds(np.reshape(each, (-1, seeds)).mean(0)) for target, each in runs.items()}
    parts = {
        part: {target: round(getattr(each, part), 2) for target, each in over.items()}
        for part in ("mean", "low", "high")
    }
    return {"method": method, **parts, "runs": dict(runs)}


def _chosen(known: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, Any]:
    for name in names:
        if name not in known:
            raise click.BadParameter(f"there is no {what} {name!r}; there are: {'; '.join(known)}")
    return {name: known[name] for name in names or known}
