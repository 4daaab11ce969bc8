"""`paramcast bench`: the rows that it promises, and that they can be true."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import Run, run_inside, run_paramcast

from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.cli import paramcast
from paramcast.hypernet.forms import FORMS
from paramcast.protocol import Package, make_key, seal
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION
from paramcast.video.training.serving import OnnxBackend

Done = subprocess.CompletedProcess[str]


def rows_of(file: Path, done: Done) -> dict[str, dict[str, Any]]:
    """The rows by name; every one is well-formed and printed."""
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert figures.keys() == {"command", "version", "commit", "seed", "machine", "rows"}
    for row in figures["rows"]:
        assert row.keys() == {"name", "value", "unit", "against", "ratio"}
        assert row["value"] > 0
        assert row["ratio"] is None or (row["ratio"] > 0 and row["against"])
        assert f"\n{row['name']} " in done.stdout
    named = {row["name"]: row for row in figures["rows"]}
    assert len(named) == len(figures["rows"])
    return named


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    file = tmp_path_factory.mktemp("service") / "f.json"
    return rows_of(file, run_paramcast("bench", "service", "--seconds", 1, "--seed", 3, "--json", file))


def test_the_service_is_compared_with_what_it_is_made_of(service: dict[str, dict[str, Any]]) -> None:
    # What does more cannot be faster: a ratio above one would be a fault of the bench.
    assert 0 < service["throughput"]["ratio"] < 1
    assert 0 < service["in_process"]["ratio"] < 1
    assert service["throughput"]["value"] < 2 * service["in_process"]["value"]
    assert service["throughput"]["unit"] == "adaptations/s"
    assert 0 < service["latency_p50"]["value"] <= service["latency_p99"]["value"]
    assert 1 < service["mean_batch"]["value"] <= 32
    assert service["load_generator"]["value"] < 100


@pytest.mark.parametrize("form", FORMS)
def test_bytes_are_those_of_real_messages(service: dict[str, dict[str, Any]], form: str) -> None:
    model = untrained_model(form)
    request = made_up_request(model, "bench-0", seed=3)
    (made,) = OnnxBackend(model).generate([request])
    package = Package(
        "bench-0", model.sha256(), 1, 2_000_000_000, form, DEFAULT_QUANTIZATION, made, 1_900_000_000
    )
    assert service[f"adapt_{form}_bytes_up"]["value"] == len(request.encode())
    down = len(seal(package, make_key()))
    # The sequence number is longer the more packages were made before; headers are padded to 8 bytes.
    assert abs(service[f"adapt_{form}_bytes_down"]["value"] - down) <= 8
    assert service[f"adapt_{form}_p50"]["value"] <= service[f"adapt_{form}_p99"]["value"]


def test_the_service_of_a_trained_model(model: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "f.json"
    rows = rows_of(file, run("bench", "service", "--model", model, "--seconds", 0.5, "--json", file))
    assert {name for name in rows if name.startswith("adapt_")} == {
        f"adapt_codes_{what}" for what in ("bytes_up", "bytes_down", "p50", "p99")
    }
    assert 0 < rows["throughput"]["ratio"] < 1


def test_the_device(world: Path, model: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "f.json"
    options = ["--rounds", 3, "--model", model, "--data", world, "--json", file]
    rows = rows_of(file, run("bench", "device", *options))
    for form in FORMS:
        for kind in ("answer", "head"):
            assert rows[f"{kind}_baked_{form}"]["against"] == f"{kind}_base"
        answer, head = rows[f"answer_adapted_{form}"], rows[f"head_adapted_{form}"]
        assert (answer["against"], head["against"]) == ("answer_base", "head_base")
        assert answer["value"] > 10 * head["value"]  # the trunks are in it
        assert 0.2 < answer["ratio"] < 5
        assert 0 < head["ratio"] < 50
        assert rows[f"swap_{form}"]["unit"] == "ms"
    assert rows["cold_start"]["value"] > rows["answer_base"]["value"] / 8
    assert rows["trunk_int8"]["against"] == "trunk_fp32"
    assert rows["trunk_int8_accuracy"]["against"] == "trunk_fp32_accuracy"
    assert rows["observe"]["ratio"] < 1  # one frame of the eight
    head, whole = (rows[f"fine_tuning_step_{of}_macs"]["value"] for of in ("head", "all"))
    assert 0 < head < whole
    assert rows["fine_tuning_step_all"]["against"] == "swap"
    assert rows["swap_kept_codes"]["value"] > 0


def test_what_the_gate_keeps(world: Path, model: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "f.json"
    options = ["--model", model, "--data", world, "--devices", 3, "--shift", "vocabulary", "--json", file]
    done = run("bench", "gate", *options)
    assert done.returncode == 0, done.stderr
    row, everything = json.loads(file.read_text())["rows"]
    assert (row["shift"], everything["shift"], row["devices"], row["models"]) == ("vocabulary", "all", 3, 1)
    assert {**everything, "shift": "vocabulary"} == row
    if row["passed"] == 0:
        nothing = {"mean": 0, "low": 0, "high": 0}
        assert (row["gated"], row["worse_gated"]) == (nothing, 0)
        assert row["kept"] in (nothing, None)  # None: the updates of these devices gain nothing at all
    if row["passed"] == 1:
        assert (row["gated"], row["worse_gated"]) == (row["open"], row["worse_open"])


def test_recovery_under_every_shift(world: Path, model: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "f.json"
    options = ["--model", model, "--data", world, "--devices", 2, "--seed", 1, "--json", file]
    done = run("bench", "recovery", *options)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert figures["seed"] == 1
    shifts = [row["shift"] for row in figures["rows"]]
    assert shifts == ["camera", "vocabulary", "category", "category+camera+vocabulary"]
    for row in figures["rows"]:
        assert (row["support"], row["devices"], row["metric"]) == (8, 2, "top1")
        assert row["controls"].keys() >= {"base", "constant", "shuffled", "own", "oracle"}
        assert "recovery" in row
        assert f"shift {row['shift']}, " in done.stdout
    assert done.stdout.count("recovery of the oracle's gain") == 4


@pytest.mark.parametrize(
    "words",
    [
        ("service", "--model", "nowhere", "--seconds", 1),
        ("service", "--seconds", 0),
        ("device", "--rounds", 0),
        ("device", "--model", "nowhere"),
        ("gate", "--model", "nowhere"),
        ("recovery", "--data", "nowhere"),
    ],
)
def test_wrong_input_is_one_line(words: tuple[object, ...]) -> None:
    done = run_inside(paramcast, "paramcast", "bench", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
