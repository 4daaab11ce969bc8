"""Page of a comparison: methods by score, and the costs of their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from paramcast.bench.ledger import REUSE
from paramcast.bench.report.labels import Box, place_labels
from paramcast.bench.report.page import both, render
from paramcast.bench.report.svg import Chart, room
from paramcast.bench.table import METHOD_COLUMNS, by_metric, metric_name, milliseconds
from paramcast.files import write_bytes

Row = Mapping[str, Any]
Cost = Callable[[Row], float]

KINDS = {
    "own": "paramcast",
    "shuffled": "another device's package",
    "free": "no labels of the device",
    "labeled": "labels of the device",
    "base": "no adaptation",
}
"""Class of the style sheet -> meaning of its color."""

_START = -1.0  # start of the horizontal axis: names of methods without costs have room on both sides
_AHEAD = ("paramcast", "base", "shuffled")  # the names of these methods are placed first
_BYTES, _MACS = "bytes a query, up and down", "multiply-accumulates of the device to adapt"


def write_comparison(path: Path | str, results: Mapping[str, Any]) -> None:
    """Write the page: one file that needs no network.

    Args:
        path: The HTML file.
        results: Results of `paramcast compare`.
    """
    metrics = [
        {
            "name": name,
            "columns": list(score_columns(rows)),
            "rows": [(row, [show(row) for show in score_columns(rows).values()]) for row in rows],
            "charts": [
                both(cost_chart, rows, partial(_a_query, "1"), partial(_a_query, "1000"), _BYTES),
                both(cost_chart, rows, _macs, None, _MACS),
            ],
        }
        for name, rows in by_metric(results["rows"]).items()
    ]
    page = render(
        Path(__file__).with_name("compare.html.j2"),
        results,
        about=results["rows"][0],
        metrics=metrics,
        chosen=[row for row, _ in metrics[0]["rows"]],
        costs=COSTS,
        kinds=KINDS,
        kind_of=kind_of,
    )
    write_bytes(path, page.encode())


def score_columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the columns of scores: name -> function that formats a row."""
    columns = dict(METHOD_COLUMNS)
    if any(row["hindsight"] is not None for row in rows):
        columns["in hindsight"] = lambda row: f"{row['hindsight']:.1f}"
    return columns


def cost_chart(rows: Sequence[Row], cost: Cost, shared: Cost | None, title: str, width: int) -> str:
    """Draw scores against costs of adaptation, by powers of ten; costs of zero are at the left edge.

    Args:
        rows: Rows of one metric, one for each method.
        cost: Row -> a number >= 0.
        shared: Row -> its cost where many queries share an adaptation; a line leads there.
        title: Title of the horizontal axis.
        width: Width in pixels.
    """
    end = math.ceil(max(1.0, *(_place(cost(row)) for row in rows))) + 0.6
    edges = [row["controls"]["own"][edge] for row in rows for edge in ("low", "high")]
    chart = Chart(width, 460 if width >= 500 else 560, (_START, end), room(edges), top=22)
    chart.y_axis(f"{metric_name(rows[0])}, %")
    chart.x_axis([(0.0, "0"), *power_marks(1, int(end), 1 if width >= 500 else 2)], title)
    base = next(row["controls"]["base"]["mean"] for row in rows)
    chart.path([(_START, base), (end, base)], "line base")
    ahead = [row for name in _AHEAD for row in rows if row["method"] == name]
    order = [*ahead, *(row for row in rows if row not in ahead)]
    for row in reversed(order):  # the most important dot last, so that no other dot hides it
        own, kind, place = row["controls"]["own"], kind_of(row), _place(cost(row))
        chart.path([(place, own["low"]), (place, own["high"])], f"whisker faint {kind}")
        if shared:
            chart.path([(_place(shared(row)), own["mean"]), (place, own["mean"])], f"whisker {kind}")
        about = f"{row['method']}: {own['mean']:.1f} % [{own['low']:.1f}, {own['high']:.1f}], {cost(row):,}"
        chart.dot(place, own["mean"], f"dot {kind}", about)
    _name(chart, [(_place(cost(row)), row) for row in order])
    return chart.svg(f"{metric_name(rows[0])} of each method against {title}")


def _name(chart: Chart, places: Sequence[tuple[float, Row]]) -> None:
    """Add names beside the dots."""
    points = [chart.at(place, row["controls"]["own"]["mean"]) for place, row in places]
    area = Box(chart.left, chart.top, chart.width - chart.right, chart.height - chart.bottom)
    labels = place_labels(points, [row["method"] for _, row in places], area)
    for (x, y), label, (_, row) in zip(points, labels, places, strict=True):
        if label and label.apart:
            chart.parts.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{label.x:.1f} {label.y:.1f}"/>')
        if label:
            chart.text(label.x, label.y + 4, label.words, label.anchor, f"end halo {kind_of(row)}")


def kind_of(row: Row) -> str:
    """Return the class of a row in the style sheet, which sets its color."""
    own = {"base": "base", "paramcast": "own", "shuffled": "shuffled"}
    return own.get(row["method"], "labeled" if row["cost"]["labels"] else "free")


def _place(value: float) -> float:
    return math.log10(value) if value >= 10 else value / 10  # so that 0 has a place


def power_marks(first: int, last: int, step: int = 1) -> list[tuple[float, str]]:
    """Return powers of ten from 1 to 12 along an axis of logarithms: (value, words)."""
    words = ["10", "100", "1 k", "10 k", "100 k", "1 M", "10 M", "100 M", "1 G", "10 G", "100 G", "1 T"]
    return [(float(power), words[power - 1]) for power in range(first, last + 1, step)]


def short(number: float, unit: str = "") -> str:
    """Format a number >= 0 with three digits: 0, 2.37 kB, 15.6 MB."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:#.3g}".rstrip(".") + f" {prefix}{unit}"
    return f"{number:.3g} {unit}".rstrip() if number else "0"


def _a_query(reuse: str, row: Row) -> float:
    """Return the bytes up and down of a query, where an adaptation serves `reuse` queries."""
    total: float = row["cost"]["bytes_per_query"][reuse]
    return total


def _macs(row: Row) -> float:
    macs: int = row["cost"]["adapt_device_macs"]
    return macs


def _size(key: str, row: Row) -> str:
    return short(row["cost"][key], "B")


def _each(reuse: str, row: Row) -> str:
    return short(_a_query(reuse, row), "B")


COSTS: dict[str, Callable[[Row], str]] = {
    "labels": lambda row: str(row["cost"]["labels"]),
    "up": partial(_size, "bytes_up"),
    "down": partial(_size, "bytes_down"),
    **{f"a query at {reuse}": partial(_each, reuse) for reuse in map(str, REUSE)},
    "MACs": lambda row: short(_macs(row)),
    "peak": partial(_size, "adapt_device_peak_bytes"),
    "ms": milliseconds,
    "leaves device": lambda row: ", ".join(row["cost"]["leaves_device"]) or "nothing",
}
"""Costs of every method: name of the column -> function that formats it; see `bench.table.METHOD_COSTS`."""
