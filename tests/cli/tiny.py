"""Fixtures for several folders: a tiny generated world, and a model that the command line trains on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import TINY, run_paramcast
from filelock import FileLock

from paramcast.video.world import make_world


@pytest.fixture(scope="session")
def everyones(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Make a folder that all of pytest's workers share; its lock lets one worker make the files for all."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "tiny"
    folder.mkdir(exist_ok=True)
    return folder


def shared_world(everyones: Path, name: str, clips: int) -> Path:
    """Make a world in the shared folder, once for all of pytest's workers."""
    folder = everyones / name
    with FileLock(everyones / f"{name}.lock"):
        if not folder.exists():
            make_world(folder, clips=clips)
    return folder


@pytest.fixture(scope="session")
def world(everyones: Path) -> Path:
    return shared_world(everyones, "world", 160)


@pytest.fixture(scope="session")
def trained(world: Path, everyones: Path) -> tuple[Path, str]:
    """Return the model's folder and the output of `paramcast train`; the results are beside the folder."""
    out, said = everyones / "model", everyones / "said.txt"
    with FileLock(everyones / "lock"):
        if not said.exists():
            options = ["--data", world, "--task", "qa", "--out", out, *TINY]
            done = run_paramcast("train", *options, "--json", everyones / "train.json")
            assert done.returncode == 0, done.stderr
            said.write_text(done.stdout)
    return out, said.read_text()


@pytest.fixture(scope="session")
def model(trained: tuple[Path, str]) -> Path:
    return trained[0]
