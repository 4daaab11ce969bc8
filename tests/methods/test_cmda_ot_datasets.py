"""The benchmark sets of CMDA-OT are read as their protocols say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from paramcast.methods.cmda_ot import __main__ as cli
from paramcast.methods.cmda_ot import scaling
from paramcast.methods.cmda_ot.baselines import METHODS
from paramcast.methods.cmda_ot.datasets import OFFICE_DOMAINS, mgr, office
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


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FederationInputError, match=r"mgr\.npy does not exist"):
        next(mgr(tmp_path))


def test_every_baseline_runs_and_the_command_writes_its_figures(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = tuple(mgr(shared_data / "features", targets=("f16",)))
    few = [
        replace(each, sources=tuple((X[::8], y[::8]) for X, y in each.sources), X=each.X[::8], y=each.y[::8])
        for each in every[:1]
    ]
    monkeypatch.setattr(cli, "mgr", lambda folder, **wanted: few)
    path = tmp_path / "figures.json"
    arguments = [str(shared_data / "features"), "--data", "mgr", "--target", "f16", "--json", str(path)]
    names = [name for name in METHODS if "aligned" not in name]
    asked = [argument for name in names for argument in ("--method", name)]
    result = CliRunner().invoke(cli.command, [*arguments, *asked], catch_exceptions=False)
    assert result.exit_code == 0
    figures = json.loads(path.read_text())
    measured = [row for row in figures["rows"] if "published" not in row]
    assert [row["method"] for row in measured] == names
    assert all(0 <= row["accuracy"]["f16"] <= 100 for row in measured)
    assert len({row["accuracy"]["f16"] for row in measured}) > 3
    assert len(figures["rows"]) == len(names) + len(cli.PUBLISHED)
    assert figures["seed"] == [0]


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
