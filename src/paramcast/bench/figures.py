"""The figures file: what was measured, by which command, from which commit, on which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramcast
from paramcast.files import write_json
from paramcast.training.statistics import interval

if TYPE_CHECKING:
    from paramcast.training.controls import Result


def figures(command: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a figures file.

    Args:
        command: As it can be typed again, without `paramcast`.
        seed: Of the run.
        rows: Metrics in percent, times in milliseconds, sizes in bytes.
    """
    return {
        "command": command,
        "version": paramcast.__version__,
        "commit": commit(),
        "seed": seed,
        "machine": machine(),
        "rows": list(rows),
    }


def write_figures(path: Path | str, command: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `figures(command, seed, rows)` to `path` as JSON, whole or not at all."""
    write_json(path, figures(command, seed, rows))


def evaluation_rows(
    results: Sequence[Result], task: str, shift: str, costs: Mapping[int, Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """A row for each metric and support size of an evaluation.

    Args:
        results: Of `training.evaluate.evaluate`.
        task: 'qa', 'choice' or 'retrieval'.
        shift: As it was asked for.
        costs: Support size -> its ledger; None where the model cannot run on a device.
    """
    return [
        {
            "task": task,
            "shift": shift,
            "support": result.support,
            "devices": len(result.devices),
            "metric": result.metric.name,
            **({"gallery": result.metric.gallery} if result.metric.gallery else {}),
            "controls": {name: interval(values).json() for name, values in result.values.items()},
            "gain": result.gain.json(),
            "own_minus_shuffled": result.device_matters.json(),
            "recovery": None if result.recovery is None else round(result.recovery, 4),
            "worse_share": round(result.worse_share, 4),
            "cost": None if costs is None else dict(costs[result.support]),
        }
        for result in results
    ]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
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
