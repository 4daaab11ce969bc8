"""Results file: the measurements with their command, commit and machine."""

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
    """Build the content of a results file.

    Args:
        command: The command as it can be typed again; a command of `paramcast` without the word `paramcast`.
        seed: Seed of the run, or all of its seeds.
        rows: Rows of results: metrics in percent, times in milliseconds, sizes in bytes.
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
    """Describe the machine that the results were measured on."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """Read the checkout's commit, followed by `-dirty` where files differ; None outside a checkout."""
    root = Path(paramcast.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """Read the processor's name; `platform` does not know it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
