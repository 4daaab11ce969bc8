"""`python -m experiments`: every line is a command, and what is written is what the rows promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Run, run_inside

from experiments.__main__ import EXPERIMENTS, NAME, experiments, load


def test_every_line_is_a_command_of_its_name() -> None:
    for name in EXPERIMENTS:
        command = load(name)
        assert command.name == name
        known = {each.name for each in command.params}
        assert "json_file" in known or name == "mm_adapter_summary"


def test_the_group_lists_every_experiment(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for name, known in EXPERIMENTS.items():
        assert f"  {name} " in done.stdout
        assert known.line.split()[0] in done.stdout


def test_streams(world: Path, model: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "f.json"
    options = ["--model", model, "--data", world, "--streams", 2, "--shift", "vocabulary", "--json", file]
    done = run("stream", *options)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert written["command"].startswith("python -m experiments stream --model ")
    rows = written["rows"]
    policies = ["never", "always", "every-10", "every-20", "default", "on-drift"]
    assert [(row["shift"], row["name"]) for row in rows] == [
        (shift, f"stream_{policy}") for shift in ("vocabulary", "all") for policy in policies
    ]
    shares = {row["name"]: row["share_of_requests"]["mean"] for row in rows}
    assert (shares["stream_never"], shares["stream_always"]) == (0, 1)
    assert shares["stream_every-20"] < shares["stream_every-10"] <= 0.1
    assert 0 < shares["stream_on-drift"] < 1
    by_name = {row["name"]: row for row in rows}
    assert by_name["stream_never"]["gain"]["mean"] == 0
    assert all(row["streams"] == 2 for row in rows)


def test_the_headroom_under_a_shift(
    world: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.json"
    monkeypatch.setattr("paramcast.bench.compare.VALIDATION_DEVICES", 4)  # fine-tuning is tuned on each
    options = ["--model", model, "--data", world, "--shift", "habits", "--devices", 2, "--labeled", 10]
    options += ["--json", file]
    done = run_inside(experiments, NAME, "headroom", *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert [row["support"] for row in rows] == [1, 8, 10]
    for row in rows:
        reference = max(row["controls"][control]["mean"] for control in ("base", "constant"))
        for upper, mean in (
            ("labeled", row["labeled"]["mean"]),
            ("oracle", row["controls"]["oracle"]["mean"]),
        ):
            assert row["room"][upper]["mean"] == pytest.approx(mean - reference, abs=1e-3)
        assert row["labels"] > 10  # the world asks more than one question about a clip


@pytest.mark.parametrize(
    "words",
    [
        ("stream", "--model", "nowhere"),
        ("adr", "--data", "nowhere"),
        ("bytes", "--data", "nowhere", "--task", "retrieval"),
        ("bytes", "--task", "choice"),
        ("m3bat", "--data", "wisdm"),
        ("nothing",),
    ],
)
def test_wrong_input_is_one_line(words: tuple[str, ...]) -> None:
    done = run_inside(experiments, NAME, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
