"""The base install in an empty environment: no torch, under 200 MB, and it is all that a device needs.

Bytecode is not counted: Python writes it where it may, some 30 MB.
"""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest
from bundles import make_bundle

ROOT = Path(__file__).parents[2]
LIMIT_MB = 200
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")  # of the environment itself

SCRIPT = """
import sys
import numpy as np
from paramcast.device import DeviceRuntime
device = DeviceRuntime.load(sys.argv[1], "cam-1")
frames = np.zeros((2, 8, 8, 3), np.uint8)
device.observe(frames, ["who is there"])
assert len(device.request().encode()) > 0
print(device.answer(frames, ["who is there"])[0].text)
"""


@pytest.mark.timeout(900)
def test_the_base_install_is_small_and_enough(tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    options = ["--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", *options, str(ROOT)], check=True)
    packages = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    assert not list(packages.glob("torch*"))
    megabytes = (
        sum(
            file.stat().st_size
            for entry in packages.iterdir()
            if not entry.name.startswith(NOT_OURS)
            for file in ([entry] if entry.is_file() else entry.rglob("*"))
            if file.is_file()
        )
        / 1e6
    )
    assert megabytes < LIMIT_MB
    bundle = make_bundle(tmp_path / "bundle")
    ran = subprocess.run([python, "-c", SCRIPT, bundle], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
