"""The files in deploy/ fit the code that they start."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from paramcast.server.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_settings_file_is_one() -> None:
    settings = Settings.gather(DEPLOY / "cloud.toml")
    assert settings.require_enrolment
    assert settings.log_format == "json"


def test_the_unit_is_one(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed here")
    unit = (DEPLOY / "paramcast.service").read_text()
    drain_s = Settings.model_fields["drain_s"].default
    stop_s = int(unit.split("TimeoutStopSec=")[1].split("\n")[0])
    assert stop_s > drain_s
    # The program and its page are not installed where the tests run.
    unit = unit.replace("/usr/local/lib/paramcast/bin/paramcast", "/bin/sh").replace("Documentation=", "#")
    (tmp_path / "paramcast.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "paramcast.service")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_image_copies_is_there() -> None:
    for line in (DEPLOY / "Containerfile").read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--"):
            assert all((DEPLOY.parent / name).exists() for name in words[1:-1]), line
