"""`python -m experiments sweep`: models, shifts, methods and seeds -> records -> tables.

A sweep is an entry of `sweeps.toml`: a command, and axes with the values that it is run for. Each run writes
one record, a results file like that of every `--json`. A run with a record is not repeated. A table gathers
the rows of the records: the mean over seeds and Student's t interval.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from experiments import ROOT
from paramcast.bench.table import align
from paramcast.cli.common import FILE, FOLDER, json_option, typed_command
from paramcast.errors import InputError, ParamcastError
from paramcast.files import write_json
from paramcast.results import write_results
from paramcast.training.statistics import over_seeds

CONFIGURATION = Path(__file__).with_name("sweeps.toml")
RESULTS = ROOT / "experiments/results"
SEED = "seed"

Point = Mapping[str, Any]
"""Axis -> value: the values of one run."""


class SweepError(ParamcastError):
    """A command of a sweep has failed and has printed the reason. Called again, the sweep resumes there."""


@dataclass(frozen=True)
class Sweep:
    """An entry of the configuration.

    Attributes:
        command: Template of the command, without --json; axes, keys of the model and folders are filled in.
        record: Template of the record's name, without `.json`.
        axes: Each: axis -> values, run in all combinations; `seed` is one of the axes.
        by: Axes and keys of a row that distinguish the lines of the table.
        values: Column -> key of a row, with dots between levels.
        where: Key of a row -> value that it must have to be in the table.
    """

    command: str
    record: str
    axes: Sequence[Mapping[str, Sequence[Any]]]
    by: Sequence[str]
    values: Mapping[str, str]
    where: Mapping[str, Any]

    def points(self, only: Mapping[str, str]) -> list[Point]:
        """Return all combinations, or only those with the given values."""
        made = [
            dict(zip(axes, values, strict=True)) for axes in self.axes for values in product(*axes.values())
        ]
        return [point for point in made if all(str(point.get(axis)) == value for axis, value in only.items())]


@dataclass(frozen=True)
class Places:
    """Folders of the collections, of the trained models, and of the records."""

    data: Path
    models: Path
    results: Path


@dataclass(frozen=True)
class Configuration:
    """Content of `sweeps.toml`.

    Attributes:
        sweeps: Name -> sweep.
        models: Value of the axis `model` -> further keys for the command and the record.
        train: Name of a model -> the command that trains it, without --out.
    """

    sweeps: Mapping[str, Sweep]
    models: Mapping[str, Mapping[str, str]]
    train: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Configuration:
        """Read the file.

        Raises:
            InputError: It cannot be read, or an entry is incomplete.
        """
        try:
            with path.open("rb") as file:
                found = tomllib.load(file)
            sweeps = {
                name: Sweep(**{"where": {}, **entry}) for name, entry in found.get("sweeps", {}).items()
            }
        except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
            raise InputError(f"{path} is no configuration of sweeps: {error}") from error
        return cls(sweeps, found.get("models", {}), found.get("train", {}))

    def filled(self, template: str, point: Point, places: Places | None) -> str:
        """Fill a template with the values of a run; without places, with bare names as in a record.

        Raises:
            InputError: The template has a key that neither axes nor model give.
        """
        folders = (
            {"data": f"{places.data}/", "models": f"{places.models}/"}
            if places
            else {"data": "", "models": ""}
        )
        known = {**point, **folders}
        try:
            of_model = {
                key: text.format(**known) for key, text in self.models.get(point.get("model", ""), {}).items()
            }
            return template.format(**known, **of_model)
        except KeyError as error:
            raise InputError(f"{template!r} asks for {error}, which {dict(point)} does not have") from error


def run_sweep(made: Configuration, sweep: Sweep, places: Places, only: Mapping[str, str]) -> int:
    """Run all points without a record, train the models that they need, and return the number of runs.

    Raises:
        SweepError: A command has failed.
        InputError: A record is no results file, or has another seed.
    """
    waiting = [point for point in sweep.points(only) if not _finished(made, sweep, point, places)]
    for point in tqdm(waiting, desc="runs", unit="run", disable=None):
        command = shlex.split(made.filled(sweep.command, point, places))
        for model in _untrained(command, places):
            _train(made, model, places)
        path = _path(made, sweep, point, places)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(
            f"{path.stem}.unfinished.json"
        )  # beside it a command keeps its finished parts
        _call([*command, "--json", str(unfinished)])
        record = json.loads(unfinished.read_text(encoding="utf-8"))
        told = made.filled(sweep.command, point, None).removeprefix("paramcast ")
        write_json(path, record | {"command": told})
        unfinished.unlink()
        shutil.rmtree(unfinished.with_suffix(".parts"), ignore_errors=True)
    return len(waiting)


def table(made: Configuration, sweep: Sweep, places: Places, only: Mapping[str, str]) -> list[dict[str, Any]]:
    """Make a row for each line of the table, from the existing records.

    Raises:
        InputError: `by` does not distinguish the rows of one record, or they lack a key.
    """
    found: dict[tuple[str, ...], dict[Any, Mapping[str, Any]]] = {}
    for point in sweep.points(only):
        path = _path(made, sweep, point, places)
        if not path.exists():
            continue
        for row in _record(path, point)["rows"]:
            if any(_of(row, key) != wanted for key, wanted in sweep.where.items()):
                continue
            line = tuple(str(point.get(key, _of(row, key) or "")) for key in sweep.by)
            if found.setdefault(line, {}).setdefault(point[SEED], row) is not row:
                raise InputError(f"{path} has several rows of {line}: `by` has to tell them apart")
    return [
        {
            **dict(zip(sweep.by, line, strict=True)),
            "seeds": sorted(rows),
            **{
                column: _gathered([_of(row, key) for row in rows.values()])
                for column, key in sweep.values.items()
            },
        }
        for line, rows in found.items()
    ]


def table_text(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the table for the terminal; with a single seed there is no interval."""
    cells = [[*sweep.by, "seeds", *sweep.values]]
    for row in rows:
        shown = (_shown(row[column]) for column in sweep.values)
        cells.append([*(row[key] for key in sweep.by), str(len(row["seeds"])), *shown])
    return align(cells)


def _gathered(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Compute mean and interval over the seeds that have the value; None where none has it."""
    known = [value for value in values if value is not None]
    return over_seeds(np.array(known, float)).json() | {"values": known} if known else None


def _shown(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    alone = len(found["values"]) == 1
    return f"{found['mean']:.2f}" + ("" if alone else f" [{found['low']:.2f}, {found['high']:.2f}]")


def _of(row: Mapping[str, Any], key: str) -> Any:
    """Return a row's value under a key with dots between levels; None where it has none."""
    found: Any = row
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _path(made: Configuration, sweep: Sweep, point: Point, places: Places) -> Path:
    return places.results / f"{made.filled(sweep.record, point, None)}.json"


def _record(path: Path, point: Point) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seed, _ = record["seed"], record["rows"]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is no results file; remove it, and its run is made again") from error
    if seed != point[SEED]:
        raise InputError(f"{path} is of seed {seed}, not {point[SEED]}; remove it, and its run is made again")
    return record


def _finished(made: Configuration, sweep: Sweep, point: Point, places: Places) -> bool:
    path = _path(made, sweep, point, places)
    return path.exists() and bool(_record(path, point))


def _untrained(command: Sequence[str], places: Places) -> Iterator[str]:
    """Yield the models that a command names in the folder of models, and that do not exist."""
    for word in command:
        if Path(word).parent == places.models and not Path(word).exists():
            yield Path(word).name


def _train(made: Configuration, model: str, places: Places) -> None:
    name, _, seed = model.rpartition("-")
    if name not in made.train:
        raise InputError(f"{places.models / model} is not there, and nothing says how it is trained")
    command = made.filled(made.train[name], {SEED: seed}, places)
    partly = places.models / f"{model}.unfinished"  # a killed training is resumed from it
    _call([*shlex.split(command), "--out", str(partly)])
    partly.rename(places.models / model)


def _call(command: Sequence[str]) -> None:
    """Run `paramcast ...` or `python ...` with this Python, from the repository's folder."""
    programs = {"paramcast": [sys.executable, "-m", "paramcast"], "python": [sys.executable]}
    if command[0] not in programs:
        raise InputError(f"{shlex.join(command)!r} is neither of paramcast nor of python")
    code = subprocess.run([*programs[command[0]], *command[1:]], cwd=ROOT, check=False).returncode
    if code:
        raise SweepError(f"ended with code {code}: {shlex.join(command)}")


def _only(given: Sequence[str], sweep: Sweep) -> dict[str, str]:
    """Parse AXIS=VALUE, ... to axis -> value."""
    known = {axis for axes in sweep.axes for axis in axes}
    for each in given:
        if each.partition("=")[0] not in known:
            raise click.BadParameter(f"{each!r}: write AXIS=VALUE; axes are {', '.join(sorted(known))}")
    return {axis: value for axis, _, value in (each.partition("=") for each in given)}


@click.command(name="sweep", context_settings={"show_default": True})
@click.argument("name")
@click.option("--data", type=FOLDER, default="data", help="Holds the collections' folders.")
@click.option(
    "--models", type=FOLDER, default="runs/models", help="Trained models; what is missing is trained."
)
@click.option(
    "--results", type=FOLDER, default=RESULTS, show_default="experiments/results", help="Holds records."
)
@click.option("--configuration", type=FILE, default=CONFIGURATION, show_default="experiments/sweeps.toml")
@click.option(
    "--only", multiple=True, metavar="AXIS=VALUE", help="A part of the sweep; again for a smaller one."
)
@click.option(
    "--table", "only_table", is_flag=True, help="Run nothing: the table of the records that are there."
)
@json_option
def command(
    name: str,
    data: Path,
    models: Path,
    results: Path,
    configuration: Path,
    only: tuple[str, ...],
    only_table: bool,
    json_file: Path | None,
) -> None:
    """Run the missing parts of the sweep NAME, and show its table: means over seeds with Student's t."""
    made = Configuration.read(configuration)
    if name not in made.sweeps:
        raise click.BadParameter(f"no sweep {name!r}; there are {', '.join(made.sweeps)}", param_hint="NAME")
    sweep, places = made.sweeps[name], Places(data.resolve(), models.resolve(), results.resolve())
    chosen = _only(only, sweep)
    if not only_table:
        click.echo(f"{run_sweep(made, sweep, places, chosen)} runs made", err=True)
    rows = table(made, sweep, places, chosen)
    click.echo(table_text(sweep, rows))
    if json_file:
        write_results(
            json_file, typed_command(), sorted({seed for row in rows for seed in row["seeds"]}), rows
        )
