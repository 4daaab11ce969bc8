"""`python -m paramcast.methods.m3bat`: the benchmark of M3BAT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import torch
from tqdm import tqdm

from paramcast.errors import InputError
from paramcast.figures import write_figures
from paramcast.methods.commandline import json_option, run
from paramcast.methods.m3bat.benchmark import METHODS, compare, rows
from paramcast.methods.m3bat.datasets import SETS, Pair, wisdm_pairs

PAIRS = {"wisdm": 3, "seglearn": 4, "diabetes": 4, "shifted": 3}
"""Pairs of domains of each set: the length of the progress bar."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", required=True, type=click.Choice(list(PAIRS)), help="Set to compare the methods on.")
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="WISDM's transformed .arff.")
@click.option(
    "--seeds", default=5, show_default=True, type=click.IntRange(1), help="Number of seeds, from 0 on."
)
@click.option(
    "--steps", default=400, show_default=True, type=click.IntRange(1), help="Training steps of a fit."
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch.")
@json_option
def command(
    data: str, file: Path | None, seeds: int, steps: int, threads: int, json_file: Path | None
) -> None:
    """Compare M3BAT with the source model, CORAL, DANN and its ablations; no choice reads a target label."""
    torch.set_num_threads(threads)
    if data == "wisdm":
        if file is None:
            raise InputError("--data wisdm needs --file with the path of WISDM's transformed .arff")
        pairs: Callable[[int], Iterator[Pair]] = partial(wisdm_pairs, file)
    else:
        pairs = SETS[data]
    with tqdm(total=seeds * PAIRS[data] * len(METHODS), desc=data, unit="fit", disable=None) as bar:
        result = rows(data, compare(pairs, seeds, steps, bar.update))
    for row in result:
        gain = row["against_source"]
        click.echo(
            f"{row['method']:26}  {row['metric']} {row['mean']:7.3f} [{row['low']:.3f}, {row['high']:.3f}]  "
            f"against source {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        )
    if json_file:
        typed = f"python -m paramcast.methods.m3bat --data {data} --seeds {seeds} --steps {steps}"
        typed += " --file WISDM_ar_v1.1_transformed.arff" if data == "wisdm" else ""
        write_figures(json_file, typed, range(seeds), result)


if __name__ == "__main__":
    run(command)
