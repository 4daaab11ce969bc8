"""`python -m experiments mm_adapter_summary FILE ...`: several benchmarks in one table.

For each seed, a value is the mean over all tasks and numbers of shots in the files; its interval is over
seeds (Student's t). A difference is between two methods on the same task, shots and seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from experiments.methods.mm_adapter.benchmark import FIGURES
from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.training.statistics import over_seeds

Cell = tuple[str, str, int]
"""Data, label, shots."""


@click.command(name="mm_adapter_summary", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--shots", multiple=True, type=int, help="Only these.  [default: all]")
def command(files: tuple[Path, ...], shots: tuple[int, ...]) -> None:
    """Print means over the tasks and shots in FILES, as Markdown."""
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]
    for line in markdown([row for row in rows if not shots or row["shots"] in shots]):
        click.echo(line)


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format a table of the methods, with their gains over zero-shot and CLIP-Adapter.

    Args:
        rows: Rows of `benchmark.measure`, with `data` and `label`.

    Raises:
        FewShotError: Methods were not all measured on the same tasks, shots and seeds.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [
        "| method | base | new | harmonic | base − zero-shot | new − zero-shot | harmonic − CLIP-Adapter |"
    ]
    lines.append("|---" * 7 + "|")
    for method in methods:
        cells = [_shown(rows, method, key) for key in FIGURES]
        for key, other in (("base", "zero-shot"), ("new", "zero-shot"), ("harmonic", "CLIP-Adapter")):
            cells.append(_shown(rows, method, key, other) if other in methods and other != method else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def _shown(rows: Sequence[Mapping[str, Any]], method: str, key: str, other: str | None = None) -> str:
    own = _by_cell(rows, method, key)
    if own is None:
        return "-"
    values = np.array(list(own.values()))
    if other:
        theirs = _by_cell(rows, other, key)
        if theirs is None or theirs.keys() != own.keys():
            raise FewShotError(f"{method!r} and {other!r} were not measured on the same tasks and shots")
        values = values - np.array([theirs[cell] for cell in own])
    found = over_seeds(values.mean(0))
    sign = "+" if other else ""
    return f"{found.mean:{sign}.1f} [{found.low:{sign}.1f}, {found.high:{sign}.1f}]"


def _by_cell(rows: Sequence[Mapping[str, Any]], method: str, key: str) -> dict[Cell, list[float]] | None:
    """Return the values of every seed by task and shots; None for a method that has none."""
    found = {
        (row["data"], row["label"], row["shots"]): row[key]["seeds"]
        for row in rows
        if row["method"] == method and row[key]
    }
    if len({len(values) for values in found.values()}) > 1:
        raise FewShotError(f"{method!r} was measured with more seeds in one file than in another")
    return found or None
