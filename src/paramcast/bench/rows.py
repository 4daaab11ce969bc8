"""Rows of the benchmarks, and the common way to compare times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from paramcast.bench.table import align
from paramcast.training.statistics import interval

if TYPE_CHECKING:
    from paramcast.training.controls import Result


def row(
    name: str, value: float, unit: str, against: str | None = None, ratio: float | None = None
) -> dict[str, Any]:
    """Make a row of a results file; `ratio` is the value divided by the value of its reference `against`."""
    return {
        "name": name,
        "value": round(float(value), 4),
        "unit": unit,
        "against": against,
        "ratio": None if ratio is None else round(float(ratio), 4),
    }


Times = Mapping[str, NDArray[np.float64]]
"""Name -> (rounds,) milliseconds of each round."""


def in_turns(what: str, calls: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Time calls in turns, A B C A B C, so that other load on the machine affects all of them.

    Args:
        what: Text for the progress bar.
        calls: Name -> call to time. Before the timing, each is called three times.
        rounds: Timed calls of each.
    """
    for call in calls.values():
        for _ in range(3):
            call()
    times = {name: np.empty(rounds) for name in calls}
    for turn in tqdm(range(rounds), desc=what, unit="round", disable=None):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name][turn] = 1e3 * (time.perf_counter() - start)
    return times


def time_row(name: str, times: Times, against: str | None = None) -> dict[str, Any]:
    """Make the row of a call's median milliseconds; its ratio is the median of the rounds' ratios.

    The calls of a round follow each other closely, so that its ratio is correct even if the machine is not
    idle.
    """
    ratio = None if against is None else float(np.median(times[name] / times[against]))
    return row(name, float(np.median(times[name])), "ms", against, ratio)


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for the terminal, with the intervals of rows that have one."""
    cells = [["", "value", "unit", "ratio", "against"]]
    for one in rows:
        ratio = "-" if one["ratio"] is None else f"{one['ratio']:.3f}"
        value = f"{one['value']:,.3f}"
        if "low" in one:
            value += f" [{one['low']:,.3f}, {one['high']:,.3f}]"
        cells.append([one["name"], value, one["unit"], ratio, one["against"] or "-"])
    return align(cells)


def evaluation_rows(
    results: Sequence[Result], task: str, shift: str, costs: Mapping[int, Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """Make a row for each metric and support size of an evaluation.

    Args:
        results: Results of `training.evaluate.evaluate`.
        task: 'qa', 'choice' or 'retrieval'.
        shift: The shift in the notation of `evaluate`.
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
