"""`python -m experiments m3bat`: M3BAT and its baselines."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from experiments.methods.m3bat.benchmark import AGAINST, METHODS, Score, ScoreFile, compare, methods_of, rows
from experiments.methods.m3bat.datasets import SETS, Pair, wisdm_pairs
from paramcast.errors import InputError
from paramcast.methods.commandline import json_option
from paramcast.methods.m3bat.domains import Task
from paramcast.results import commit, write_results

TASKS: dict[str, Task] = dict.fromkeys(("wisdm", *SETS), "classification")
TASKS |= dict.fromkeys(("shifted", "diabetes"), "regression")


@click.command(name="m3bat")
@click.option("--data", required=True, type=click.Choice(list(TASKS)), help="Set to compare the methods on.")
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="WISDM's transformed .arff.")
@click.option(
    "--seeds", default=5, show_default=True, type=click.IntRange(1), help="Number of seeds, from 0 on."
)
@click.option(
    "--steps", default=300, show_default=True, type=click.IntRange(1), help="Training steps of a fit."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(METHODS),
    help="Method to run; give it again for more. Default: all.",
)
@click.option(
    "--scores",
    "scores_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep every score here as it comes; the same command goes on from there.",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch.")
@json_option
def command(
    data: str,
    file: Path | None,
    seeds: int,
    steps: int,
    methods: tuple[str, ...],
    scores_file: Path | None,
    threads: int,
    json_file: Path | None,
) -> None:
    """Compare M3BAT with the source model, CORAL, DANN and its ablations; no choice reads a target label."""
    torch.set_num_threads(threads)
    if data == "wisdm":
        if file is None:
            raise InputError("--data wisdm needs --file with the path of WISDM's transformed .arff")
        pairs: Callable[[int], Iterator[Pair]] = partial(wisdm_pairs, file)
    else:
        pairs = SETS[data]
    task = TASKS[data]
    if not methods_of(task, methods):
        raise InputError(f"--method {methods[0]}: it does not do {task}; choose another, or another --data")
    typed = f"python -m experiments m3bat --data {data} --seeds {seeds} --steps {steps}"
    typed += " --file WISDM_ar_v1.1_transformed.arff" if data == "wisdm" else ""
    typed += "".join(f" --method {shlex.quote(name)}" for name in methods)
    kept = ScoreFile(scores_file, {"command": typed, "commit": commit()}) if scores_file else None
    with tqdm(desc=data, unit="fit", disable=None) as bar:

        def report(score: Score) -> None:
            bar.update()
            bar.set_postfix_str(f"{score.pair}, seed {score.seed}, {score.method}: {score.value:.3f}")
            if kept:
                kept.add(score)

        scores = compare(pairs, range(seeds), steps, methods, kept.known if kept else (), report)
    result = rows(data, task, scores)
    for row in result:
        click.echo(_line(row))
    if json_file:
        write_results(json_file, typed, range(seeds), result)


def _line(row: Mapping[str, Any]) -> str:
    line = f"{row['method']:26}  {row['metric']} {row['mean']:7.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    for other in AGAINST:
        if gain := row.get(f"against_{other}"):
            line += f"  against {other} {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return line
