"""`paramcast compare`: its rows, its page, that it goes on, and that its devices are those of evaluate."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import Run, run_inside

from paramcast.cli import paramcast
from paramcast.video.data.collection import Collection
from paramcast.video.training.evaluate import evaluate
from paramcast.video.training.model import TrainedModel

METHODS = ["base", "paramcast", "shuffled", "centre", "fta_4", "fedavg_ft"]
OPTIONS = ("--devices", 3, "--shift", "camera", "--support", 2, "--labels", 3)


@pytest.fixture(scope="module")
def compared(
    world: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Compare the methods, which are tuned on fewer devices than users have."""
    folder = tmp_path_factory.mktemp("compared")
    files = ("--json", folder / "c.json", "--html", folder / "c.html")
    arguments = ("compare", "--model", model, "--data", world, *OPTIONS, *files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paramcast.bench.compare.VALIDATION_DEVICES", 4)
        return folder, run_inside(paramcast, "paramcast", *arguments, "--methods", ",".join(METHODS))


@pytest.fixture(scope="module")
def figures(compared: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    folder, done = compared
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads((folder / "c.json").read_text())
    return loaded


def test_a_row_a_method_the_best_first(figures: dict[str, Any]) -> None:
    rows = figures["rows"]
    assert {row["method"] for row in rows} == set(METHODS)
    scores = [row["controls"]["own"]["mean"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        assert (row["task"], row["shift"], row["support"], row["devices"]) == ("qa", "camera", 2, 3)
        assert row["metric"] == "top1"
        assert row["gain"]["low"] <= row["gain"]["mean"] <= row["gain"]["high"]
        assert len(row["trials"]) <= 6
        assert not row["trials"] or max(t["score"] for t in row["trials"]) == next(
            t["score"] for t in row["trials"] if t["settings"] == row["settings"]
        )


def test_costs(figures: dict[str, Any]) -> None:
    cost = {row["method"]: row["cost"] for row in figures["rows"]}
    assert {name: one["labels"] for name, one in cost.items() if one["labels"]} == {
        "fta_4": 4,
        "fedavg_ft": 3,
    }
    assert cost["paramcast"]["leaves_device"] == ["features"]
    assert 400 < cost["paramcast"]["bytes_up"] < 1200
    assert cost["paramcast"]["cloud_ms"] > 0
    assert 0 < cost["paramcast"]["adapt_device_macs"] < cost["fta_4"]["adapt_device_macs"]
    assert cost["fedavg_ft"]["bytes_up"] > 1_000_000
    assert cost["base"]["adapt_device_macs"] == cost["base"]["bytes_down"] == 0
    assert cost["base"]["adapt_device_peak_bytes"] == 0
    sent = cost["paramcast"]["bytes_up"] + cost["paramcast"]["bytes_down"]
    assert cost["paramcast"]["bytes_per_query"]["1000"] == pytest.approx(sent / 1000, abs=0.01)
    assert sent < cost["paramcast"]["adapt_device_peak_bytes"] < cost["fta_4"]["adapt_device_peak_bytes"]


def test_the_devices_are_those_of_evaluate(figures: dict[str, Any], world: Path, model: Path) -> None:
    found = evaluate(
        TrainedModel.load(model), Collection.open(world), shift="camera", devices=3, support_sizes=[2]
    ).results[0]
    own = {row["method"]: row["controls"]["own"]["mean"] for row in figures["rows"]}
    for method, control in (("base", "base"), ("paramcast", "own"), ("shuffled", "shuffled")):
        assert own[method] == pytest.approx(found.values[control].mean(), abs=1e-3)


def test_it_prints_the_table_and_writes_the_page(
    compared: tuple[Path, subprocess.CompletedProcess[str]], figures: dict[str, Any]
) -> None:
    folder, done = compared
    page = (folder / "c.html").read_text(encoding="utf-8")
    for row in figures["rows"]:
        assert f"\n{row['method']} " in done.stdout
        assert f"<th>{row['method']}</th>" in page
    assert page.count("<svg") == 4  # bytes and the device's work, wide and narrow
    assert "Traceback" not in done.stderr


def test_what_was_done_is_not_done_again(
    compared: tuple[Path, subprocess.CompletedProcess[str]],
    figures: dict[str, Any],
    world: Path,
    model: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    parts = compared[0] / "c.parts"
    kept = json.loads((parts / "centre.json").read_text())
    kept["values"][0]["values"] = [12.5, 12.5, 12.5]  # what a run that did it again would not find
    (parts / "centre.json").write_text(json.dumps(kept))
    arguments = ("compare", "--model", model, "--data", world, "--methods", "centre", "--out", parts)
    again = run(*arguments, *OPTIONS, "--json", tmp_path / "again.json")
    assert again.returncode == 0, again.stderr
    rows = {row["method"]: row for row in json.loads((tmp_path / "again.json").read_text())["rows"]}
    assert rows["centre"]["controls"]["own"] == {"mean": 12.5, "low": 12.5, "high": 12.5}
    other = run(*arguments, *OPTIONS, "--seed", 1)
    assert other.returncode == 2
    assert "other settings (seed)" in other.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "magic"), "no method is called 'magic'"),
        (("--methods", "csls"), "does not serve task 'qa'"),
        (("--methods", "base", "--shift", "weather"), "no shift is called weather"),
    ],
)
def test_what_cannot_be_is_one_line(world: Path, model: Path, words: tuple[object, ...], said: str) -> None:
    done = run_inside(paramcast, "paramcast", "compare", "--model", model, "--data", world, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
