"""The results file: what was measured, by which command, from which commit, on which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import paramcast
from paramcast.files import write_json


def results(command: str, seed: int | Sequence[int], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a results file.

    Args:
        command: As it can be typed again; commands of `paramcast` without that word.
        seed: Of the run, or all of its seeds.
        rows: Metrics in percent, times in milliseconds, sizes in bytes.
    """
    return {
        "command": command,
        "version": paramcast.__version__,
        "commit": commit(),
        "seed": seed if isinstance(seed, int) else list(seed),
        "machine": machine(),
        "rows": list(rows),
    }


def write_results(
    path: Path | str, command: str, seed: int | Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write `results(command, seed, rows)` to `path` as JSON, whole or not at all."""
    write_json(path, results(command, seed, rows))


def machine() -> dict[str, Any]:
    """What the results were measured on."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """The checkout's commit, with `-dirty` behind it where files differ; None outside of a checkout."""
    root = Path(paramcast.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """The processor's name; `platform` does not know it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
