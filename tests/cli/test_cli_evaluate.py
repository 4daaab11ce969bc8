"""`paramcast evaluate`: figures, tables, page and devices."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from paramcast.video.shifts.fleet import Fleet

CONTROLS = {"base", "constant", "shuffled", "own", "oracle"}


@pytest.fixture(scope="module")
def evaluated(
    world: Path, model: Path, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("evaluated")
    options = ["--devices", 3, "--shift", "category+camera", "--support", 1, "--support", 2]
    files = ["--json", folder / "f.json", "--report", folder / "r.html", "--fleet", folder / "fleet.json"]
    return folder, run("evaluate", "--model", model, "--data", world, *options, *files)


@pytest.fixture(scope="module")
def figures(evaluated: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    folder, done = evaluated
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads((folder / "f.json").read_text())
    return loaded


def test_rows_of_the_figures(figures: dict[str, Any]) -> None:
    assert figures.keys() == {"command", "version", "commit", "seed", "machine", "rows"}
    assert [row["support"] for row in figures["rows"]] == [1, 2]
    for row in figures["rows"]:
        assert (row["task"], row["shift"], row["metric"]) == ("qa", "category+camera", "top1")
        assert row["devices"] == 3
        assert row["controls"].keys() >= CONTROLS
        for value in (*row["controls"].values(), row["gain"], row["own_minus_shuffled"]):
            assert value["low"] <= value["mean"] <= value["high"]
        assert row["recovery"] is None or isinstance(row["recovery"], float)
        assert 0 <= row["worse_share"] <= 1


def test_costs_are_measured(figures: dict[str, Any]) -> None:
    one, two = (row["cost"] for row in figures["rows"])
    assert one["labels"] == 0
    assert one["leaves_device"] == ["features"]
    assert 400 < one["bytes_up"] < two["bytes_up"] < one["bytes_up"] + 400
    assert one["bytes_down"] > 100
    assert one["bytes_per_query"]["1"] == one["bytes_up"] + one["bytes_down"]
    assert one["bytes_per_query"]["1000"] == pytest.approx(one["bytes_per_query"]["1"] / 1000, abs=0.01)
    # Two frames through EfficientNet-Lite0 (384 million each) and a text of 12 tokens (128 million).
    assert 850e6 < one["device_macs"] < 1000e6
    assert all(one[name] > 0 for name in ("device_ms", "cloud_ms", "device_peak_mb"))


def test_it_prints_the_controls(evaluated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    printed = evaluated[1].stdout
    assert all(f"\n{control} (" in printed for control in CONTROLS)
    assert "bytes up, one adaptation" in printed
    assert "Traceback" not in evaluated[1].stderr


def test_the_page_and_the_devices_are_there(
    evaluated: tuple[Path, subprocess.CompletedProcess[str]], figures: dict[str, Any]
) -> None:
    folder, _ = evaluated
    assert len(Fleet.load(folder / "fleet.json").devices) == 3
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert figures["commit"] is None or figures["commit"] in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shift", "weather"), "no shift is called weather"),
        (("--support", 16, "--support", 60), "support"),
    ],
)
def test_what_cannot_be_is_one_line(
    world: Path, model: Path, run: Run, words: tuple[object, ...], said: str
) -> None:
    done = run("evaluate", "--model", model, "--data", world, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_no_model_is_one_line(world: Path, tmp_path: Path, run: Run) -> None:
    done = run("evaluate", "--model", tmp_path, "--data", world)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "paramcast train" in done.stderr
