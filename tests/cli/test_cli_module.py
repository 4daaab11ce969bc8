"""Commands for a user's own module: train, evaluate and export, alone and with several workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from paramcast.cli import paramcast

SOURCE = """
import numpy as np
import torch
from torch import nn

import paramcast as pc


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Linear(16, 2))


def device(name, rng):
    shift = rng.normal(size=2) * 2
    labels = rng.integers(2, size=40)
    points = np.stack([labels * 2.0 - 1, rng.normal(size=40)], 1) + shift
    return pc.DeviceData(name, (points.astype(np.float32),), labels)


def devices():
    rng = np.random.default_rng(0)
    return [device(f"d{i}", rng) for i in range(30)]
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "my.py"
    path.write_text(SOURCE)
    return str(path)


def given(source: str) -> list[str]:
    return ["--module", f"{source}:build", "--devices", f"{source}:devices"]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(paramcast, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_train_evaluate_and_export(source: str, tmp_path: Path) -> None:
    model, artifact, results = tmp_path / "model", tmp_path / "artifact", tmp_path / "results.json"
    said = run("train", *given(source), "--base", "--steps", "20", "--out", str(model))
    assert "validation devices" in said
    run("evaluate", "--model", str(model), *given(source), "--json", str(results))
    (row,) = json.loads(results.read_text())["rows"]
    assert {"base", "own", "constant", "shuffled"} <= set(row["controls"])
    run("export", "--model", str(model), "--module", f"{source}:build", "--out", str(artifact))
    assert (artifact / "device" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--data", "."], "--data cannot be combined with --module"),
        (["--frames", "4"], "--frames cannot be combined with --module"),
        (["--sampling", "time"], "--sampling cannot be combined with --module"),
        (["--skip-broken"], "--skip-broken cannot be combined with --module"),
    ],
)
def test_options_of_videos_are_refused(
    options: Sequence[str], told: str, source: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        paramcast, ["train", *given(source), "--out", str(tmp_path / "m"), *options], standalone_mode=False
    )
    assert told in str(done.exception)
    assert not (tmp_path / "m").exists()


def test_options_of_modules_are_refused_for_videos(tmp_path: Path) -> None:
    arguments = ["train", "--data", str(tmp_path), "--task", "qa", "--out", str(tmp_path / "m"), "--base"]
    done = CliRunner().invoke(paramcast, arguments, standalone_mode=False)
    assert "--base cannot be combined with --data" in str(done.exception)
