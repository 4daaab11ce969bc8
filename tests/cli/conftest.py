"""A tiny generated world, and a model that is trained on it by the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import TINY, Run, run_paramcast

from paramcast.data.world import make_world


@pytest.fixture(scope="session")
def run() -> Run:
    return run_paramcast


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "world"
    make_world(folder, clips=160)
    return folder


@pytest.fixture(scope="session")
def trained(world: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The model's folder, and what `paramcast train` said; its figures are beside it."""
    out = world.parent / "model"
    figures = world.parent / "train.json"
    return out, run_paramcast(
        "train", "--data", world, "--task", "qa", "--out", out, *TINY, "--json", figures
    )


@pytest.fixture(scope="session")
def model(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    assert trained[1].returncode == 0, trained[1].stderr
    return trained[0]
