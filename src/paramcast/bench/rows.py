"""Rows of the benchmarks, and the one way in which two things are timed against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paramcast.bench.table import align


def row(
    name: str, value: float, unit: str, against: str | None = None, ratio: float | None = None
) -> dict[str, Any]:
    """A row of a figures file; `ratio` is value / value of what it was measured against."""
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "against": against,
        "ratio": None if ratio is None else round(ratio, 4),
    }


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each call, timed A B A B so that what else the machine does hits all alike.

    Args:
        calls: Name -> what is timed; each is called a few times before.
        rounds: Timed calls of each.
    """
    for call in calls.values():
        for _ in range(3):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(taken)) for name, taken in times.items()}


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for the terminal."""
    cells = [["", "value", "unit", "ratio", "against"]]
    for one in rows:
        ratio = "-" if one["ratio"] is None else f"{one['ratio']:.3f}"
        cells.append([one["name"], f"{one['value']:,.3f}", one["unit"], ratio, one["against"] or "-"])
    return align(cells)
