"""The sets of CMDA-OT are read as their protocols say; its benchmarks measure what they write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from experiments.methods.cmda_ot import benchmark, scaling
from experiments.methods.cmda_ot.baselines import GROUPS
from experiments.methods.cmda_ot.benchmark import command
from experiments.methods.cmda_ot.datasets import OFFICE_DOMAINS, Problem, mgr, office
from experiments.methods.cmda_ot.selection import digits, noiseless, wisdm, words
from paramcast.errors import InputError
from paramcast.methods.cmda_ot.errors import FederationInputError


def test_office(shared_data: Path) -> None:
    problems = list(office(shared_data / "features"))
    assert tuple(each.target for each in problems) == OFFICE_DOMAINS
    assert [len(each.y) for each in problems] == [958, 1123, 157, 295]
    for each in problems:
        X, y, domain = each.stacked()
        assert X.shape == (2533, 800)
        assert 0 <= X.min() <= X.max() <= 1
        assert sorted(set(domain)) == [-1, 1, 2, 3]
        assert set(y[domain < 0]) == {-1}


def test_mgr(shared_data: Path) -> None:
    problems = list(mgr(shared_data / "features"))
    assert len(problems) == 20
    for each in problems:
        assert each.X.shape == (800, 57)
        assert [len(y) for _, y in each.sources] == [800] * 4
        assert len(np.unique(each.y)) == 10


def test_sets_for_choosing(shared_data: Path) -> None:
    made = [*digits(shared_data), *wisdm(shared_data / "features"), *words(shared_data / "msrvtt")]
    assert [len(each.sources) for each in made] == [3] * 8 + [2] * 3
    for each in made:
        samples = [X for X, _ in each.sources] + [each.X]
        assert all(np.isfinite(X).all() for X in samples)
        assert {X.shape[1] for X in samples} == {each.X.shape[1]}
        assert set(each.y) <= {c for _, y in each.sources for c in y}
    benchmark = {each.target for each in mgr(shared_data / "features")}
    assert {each.target for each in noiseless(shared_data / "features")} == {"noiseless"}
    assert "noiseless" not in benchmark


def test_missing_file(tmp_path: Path) -> None:
    for make, name in ((mgr, r"mgr\.npy"), (office, r"surf\.mat"), (wisdm, r"\.arff")):
        with pytest.raises(FederationInputError, match=rf"{name} does not exist"):
            next(make(tmp_path))


def test_every_baseline_runs_and_the_command_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [
        replace(each, sources=tuple((X[::4], y[::4]) for X, y in each.sources), X=each.X[::4], y=each.y[::4])
        for each in digits(tmp_path)
    ][:2]
    monkeypatch.setitem(benchmark.SETS, "digits", lambda folder: iter(few))
    path = tmp_path / "figures.json"
    arguments = ["--data", "digits", "--seeds", "1", "--target", "plain", "--json", str(path)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    figures = json.loads(path.read_text())
    assert [row["method"] for row in figures["rows"]] == list(GROUPS["main"])
    for row in figures["rows"]:
        (accuracy,) = row["runs"]["plain"]
        assert row["mean"] == row["low"] == row["high"] == {"plain": accuracy}
        assert 20 < accuracy <= 100  # ten classes
    assert len({row["mean"]["plain"] for row in figures["rows"]}) > 6
    assert figures["seed"] == [0]
    assert list(tmp_path.iterdir()) == [path]


def test_figures_are_of_all_folds_and_seeds(tmp_path: Path) -> None:
    problems = list(digits(tmp_path))
    folds = [problems[0], replace(problems[0], fold=2), problems[1]]
    seen = []

    def method(problem: Problem, seed: int) -> float:
        seen.append((problem, seed))
        return float(len(seen))

    (row,) = benchmark.measure(folds, {"counted": method}, 2, benchmark.Runs(None, {}))
    assert row["runs"] == {"plain": [1, 2, 3, 4], "rotated": [5, 6]}
    assert row["mean"] == {"plain": 2.5, "rotated": 5.5}
    assert row["low"]["plain"] < 2.5 < row["high"]["plain"]


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    path, problems = tmp_path / "figures.runs", list(digits(tmp_path))[:2]
    asked = []

    def method(problem: Problem, seed: int) -> float:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(problem.target)
        return 50.0 + seed

    with pytest.raises(KeyboardInterrupt):
        benchmark.measure(problems, {"m": method}, 2, benchmark.Runs(path, {"commit": "a"}))
    with path.open("a") as file:
        file.write('["m", "rot')  # killed while it wrote
    asked.clear()
    (row,) = benchmark.measure(problems, {"m": method}, 2, benchmark.Runs(path, {"commit": "a"}))
    assert asked == ["rotated", "rotated"]
    assert row["runs"] == {"plain": [50, 51], "rotated": [50, 51]}
    with pytest.raises(InputError, match=r"other settings \(commit\)"):
        benchmark.Runs(path, {"commit": "b"})


def test_published_rows_are_marked() -> None:
    assert all(row["published"] and "runs" not in row for row in benchmark.published())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "no method 'magic'; there are: CMDA-OT; pooled"),
        (["--target", "moon"], "no target 'moon'; there are: plain; rotated"),
    ],
)
def test_wrong_names_are_told(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, ["--data", "digits", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_scaling_rows(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    result = CliRunner().invoke(
        scaling.command, ["--samples", "200", "--json", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0
    for row in json.loads(path.read_text())["rows"]:
        assert row["samples"] == 200
        assert row["peak_mb"] >= row["before_mb"] > 0
        assert row["seconds"] > 0
        assert row["accuracy"] > 60
