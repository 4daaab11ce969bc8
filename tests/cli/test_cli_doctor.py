"""`paramcast doctor` on what is installed here, and where something is missing."""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from paramcast.cli.doctor import EXTRAS, command, problems, requirements
from paramcast.installed import install_command

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_is_told_of() -> None:
    assert set(EXTRAS) == {"", *PROJECT["optional-dependencies"]}


def test_the_parts_that_tests_run_on_are_ready() -> None:
    told = CliRunner().invoke(command).output
    for extra in ("(base)", "train", "server", "methods"):
        (line,) = (line for line in told.splitlines() if line.split()[:1] == [extra])
        assert line.endswith("ready")
    assert "CPU" in told


def test_an_extra_asks_for_what_its_own_extras_ask_for() -> None:
    names = {requirement.name for requirement in requirements("train")}
    assert {"torch", "av"} <= names
    assert "fastapi" not in names
    assert {requirement.name for requirement in requirements("")} >= {"numpy", "onnxruntime"}


def test_what_is_missing_or_too_old_is_named_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = metadata.version

    def version(name: str) -> str:
        if name == "uvicorn":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "fastapi" else known(name)

    monkeypatch.setattr(metadata, "version", version)
    wanting = list(problems("server"))
    assert "uvicorn is not installed" in wanting
    assert any(line.startswith("fastapi is 0.1; >=") for line in wanting)
    told = CliRunner().invoke(command)
    assert told.exit_code == 0
    assert install_command("server") in told.output


def test_what_is_there_and_broken_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra is ready if its commands run, not if its packages are listed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    (problem, *_) = problems("server")
    assert "cannot be imported" in problem
    assert "uvicorn" in problem
