"""`paramcast export`, and the commands' common manners."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Run

from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.cli import COMMANDS
from paramcast.device import DeviceRuntime
from paramcast.protocol import load_or_make_key, public_key_hex


def test_a_device_runs_what_is_exported(model: Path, tmp_path: Path, run: Run) -> None:
    key, artifact, figures = tmp_path / "cloud.key", tmp_path / "artifact", tmp_path / "figures.json"
    public = public_key_hex(load_or_make_key(key))
    done = run("export", "--model", model, "--out", artifact, "--key", key, "--json", figures)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    for folder in (artifact, artifact / "device"):
        device = DeviceRuntime.load(folder, "cam-1")
    assert device.public_key == public
    assert device.bundle.frames == 2
    rows = json.loads(figures.read_text())["rows"]
    files = [path for path in artifact.rglob("*") if path.is_file()]
    assert {row["name"] for row in rows} == {path.relative_to(artifact).as_posix() for path in files}
    assert OnnxHypernetwork.open(artifact).model == device.bundle.model
    # The private half stays where it is.
    secret = key.read_text().strip()
    assert all(secret not in path.read_text("latin-1") for path in files)


def test_it_writes_over_nothing_but_an_artifact(model: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run("export", "--model", model, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")
