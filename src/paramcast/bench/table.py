"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

CONTROLS = {
    "base": "no adaptation",
    "constant": "one package for all",
    "shuffled": "another device's package",
    "own": "its own package",
    "oracle": "given the true domain",
}
"""Control -> parameters that the device runs."""

METRICS = {
    "top1": "top1: questions answered correctly; case, blanks, articles and punctuation do not count",
    "consensus": "consensus: VQA's score for the answers of several people",
    "match3": "match3: sentences whose best picture among the pictures of their clip is the right one",
    "r@1": "r@k: captions whose clip is among the best k; ties count by chance",
}
"""Metric -> its meaning."""

QUESTION_CONTROLS = {
    "black": "no adaptation, black pictures",
    "question_only": "no adaptation, no pictures",
    "ceiling": "questions with a known answer",
}
"""Further controls of questions, all of the base model: two without looking at the clip, and a limit."""


def controls_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the controls of an evaluation: a block for each metric, a column for each support size.

    Args:
        rows: Rows of a results file of `evaluate`.
    """
    return "\n\n".join(_block(block) for block in by_metric(rows).values())


def by_metric(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group rows by metric and gallery, such as 'r@10 among all clips'; the order is kept."""
    blocks: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        blocks.setdefault(metric_name(row), []).append(row)
    return blocks


def metric_name(row: Mapping[str, Any]) -> str:
    """Name the metric, and the clips among which the clip of a text is searched."""
    among = {"device": " among the device's clips", "collection": " among all clips"}
    return f"{row['metric']}{among.get(row.get('gallery', ''), '')}"


def _block(rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    title = (
        f"{metric_name(first)}, percent: {first['task']}, shift {first['shift']}, "
        f"{first['devices']} devices, mean [95 % interval]"
    )
    cells = [["support", *(str(row["support"]) for row in rows)]]
    for control, meaning in (CONTROLS | QUESTION_CONTROLS).items():
        if control not in first["controls"]:
            continue  # there is no oracle where the true domains are not known
        cells.append([f"{control} ({meaning})", *(interval_text(row["controls"][control]) for row in rows)])
    cells.append(["gain: own - max(base, constant)", *(interval_text(row["gain"], "+") for row in rows)])
    cells.append(["own - shuffled", *(interval_text(row["own_minus_shuffled"], "+") for row in rows)])
    cells.append(["recovery of the oracle's gain", *(_share(row["recovery"]) for row in rows)])
    cells.append(["devices worse by over 1 point", *(_share(row["worse_share"]) for row in rows)])
    meaning = METRICS.get(first["metric"], "")
    return "\n".join([title, *([meaning] if meaning else []), align(cells)])


def align(cells: Sequence[Sequence[str]]) -> str:
    """Format columns of equal width: the first to the left, others to the right, a rule under the header."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def interval_text(value: Mapping[str, float], sign: str = "") -> str:
    """Format a mean and its interval, to one decimal; `sign` is '+' for differences."""
    return f"{value['mean']:{sign}.1f} [{value['low']:{sign}.1f}, {value['high']:{sign}.1f}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def costs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the costs of an adaptation, a column for each support size.

    Args:
        rows: Rows of a results file of `evaluate`, all with a cost.
    """
    costs = {row["support"]: row["cost"] for row in rows}
    cells = [["costs; support clips", *map(str, costs)]]
    cells += [[name, *(show(cost) for cost in costs.values())] for name, show in COSTS.items()]
    return align(cells)


def methods_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the methods of a comparison, best first: a block for each metric, and one block of costs.

    Args:
        rows: Rows of a results file of `compare`.
    """
    blocks = list(by_metric(rows).values())
    costs = [[row["method"], *(show(row) for show in METHOD_COSTS.values())] for row in blocks[0]]
    return "\n\n".join([*map(_methods_block, blocks), align([["to adapt", *METHOD_COSTS], *costs])])


def _methods_block(rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    title = (
        f"{metric_name(first)}, percent: {first['task']}, shift {first['shift']}, "
        f"{first['devices']} devices, {first['support']} support clips, mean [95 % interval]"
    )
    columns = method_columns(rows)
    cells = [["method", *columns]]
    cells += [[row["method"], *(show(row) for show in columns.values())] for row in rows]
    return f"{title}\n{align(cells)}"


def method_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """Return the columns of scores for these methods: name -> function that formats a row."""
    columns = dict(METHOD_COLUMNS)
    if any(row["hindsight"] is not None for row in rows):
        columns["in hindsight"] = lambda row: f"{row['hindsight']:.1f}"
    if any(row["note"] for row in rows):
        columns[""] = lambda row: row["note"]
    return columns


def milliseconds(row: Mapping[str, Any]) -> str:
    """Format the milliseconds of adapting, and the place: the device, or the cloud."""
    cost = row["cost"]
    if cost["cloud_query_ms"] is not None:
        return f"{cost['cloud_query_ms']:.1f} cloud, each query"
    if cost["cloud_ms"] is not None:
        return f"{cost['cloud_ms']:.1f} cloud"
    return f"{cost['adapt_device_ms']:.1f}"


def _per_query(reuse: str, cost: Mapping[str, Any]) -> str:
    return f"{cost['bytes_per_query'][reuse]:,.0f}"


def _row_per_query(reuse: str, row: Mapping[str, Any]) -> str:
    return _per_query(reuse, row["cost"])


METHOD_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "score": lambda row: interval_text(row["controls"]["own"]),
    "gain over base": lambda row: interval_text(row["gain"], "+"),
    "worse": lambda row: _share(row["worse_share"]),
}
"""Scores of every method: name of the column -> function that formats a row."""

METHOD_COSTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "labels": lambda row: str(row["cost"]["labels"]),
    "bytes up": lambda row: f"{row['cost']['bytes_up']:,}",
    "bytes down": lambda row: f"{row['cost']['bytes_down']:,}",
    **{f"a query at {n}": partial(_row_per_query, n) for n in ("1", "10", "100", "1000")},
    "device MMACs": lambda row: f"{row['cost']['adapt_device_macs'] / 1e6:,.1f}",
    "peak kB": lambda row: f"{row['cost']['adapt_device_peak_bytes'] / 1e3:,.0f}",
    "ms": milliseconds,
    "leaves device": lambda row: ", ".join(row["cost"]["leaves_device"]) or "nothing",
}
"""Costs of every method: name of the column -> function that formats a row. Products, memory and milliseconds
are of adapting. `a query at n` is the bytes up and down of a query where an adaptation serves n queries.
"""


COSTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "labels": lambda cost: str(cost["labels"]),
    "bytes up, one adaptation": lambda cost: f"{cost['bytes_up']:,}",
    "bytes down, one adaptation": lambda cost: f"{cost['bytes_down']:,}",
    **{f"bytes a query at reuse {reuse}": partial(_per_query, reuse) for reuse in ("1", "10", "100", "1000")},
    "device: ms an answer (p50)": lambda cost: f"{cost['device_ms']:.1f}",
    "device: million MACs an answer": lambda cost: f"{cost['device_macs'] / 1e6:,.0f}",
    "device: peak memory, MB": lambda cost: f"{cost['device_peak_mb']:.0f}",
    "cloud: ms to make parameters (p50)": lambda cost: f"{cost['cloud_ms']:.1f}",
    "leaves the device": lambda cost: ", ".join(cost["leaves_device"]),
}
"""Entries of a ledger: name -> function that formats it."""
