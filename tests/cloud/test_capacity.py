"""The capacity model and the table of noise in the docs are what the committed files give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_pages_say_what_the_committed_files_say() -> None:
    command = [sys.executable, str(ROOT / "docs" / "build_cloud.py"), "--check"]
    assert subprocess.run(command, capture_output=True).returncode == 0, "run: make docs"
