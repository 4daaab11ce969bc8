"""The page of a comparison: methods by score, and what their scores cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from paramcast.bench.report.page import both, machine_words, render
from paramcast.bench.report.svg import Chart, room
from paramcast.bench.table import METHOD_COSTS, by_metric, method_columns, metric_name
from paramcast.files import write_bytes

Row = Mapping[str, Any]


def write_comparison(path: Path | str, figures: Mapping[str, Any]) -> None:
    """Write the page: one file, no network.

    Args:
        path: The HTML file.
        figures: Of `paramcast compare`.
    """
    metrics = [
        {
            "name": name,
            "columns": list(method_columns(rows)),
            "rows": [(row["method"], [show(row) for show in method_columns(rows).values()]) for row in rows],
            "bytes": [
                both(cost_chart, rows, partial(_bytes, n), f"bytes a query, if an adaptation serves {n}")
                for n in ("1", "1000")
            ],
            "macs": both(cost_chart, rows, _macs, "multiply-accumulates of the device to adapt"),
        }
        for name, rows in by_metric(figures["rows"]).items()
    ]
    chosen = [row for row in figures["rows"] if metric_name(row) == metrics[0]["name"]]
    page = render(
        "compare.html.j2",
        figures=figures,
        machine=machine_words(figures),
        first=figures["rows"][0],
        metrics=metrics,
        chosen=chosen,
        cost_columns=list(METHOD_COSTS),
        costs=[(row["method"], [show(row) for show in METHOD_COSTS.values()]) for row in chosen],
    )
    write_bytes(path, page.encode())


def cost_chart(rows: Sequence[Row], cost: Any, title: str, width: int) -> str:
    """Score against what adaptation takes, by powers of ten; what takes nothing stands at the left edge.

    Args:
        rows: Of one metric, a method each.
        cost: Row -> a number >= 0.
        title: Of the horizontal axis.
        width: In pixels.
    """
    places = [_place(cost(row)) for row in rows]
    end = math.ceil(max(1.0, *places)) + 0.6
    edges = [row["controls"]["own"][edge] for row in rows for edge in ("low", "high")]
    chart = Chart(width, 380, (-0.4, end), room(edges), top=22, right=84)
    chart.y_axis(f"{metric_name(rows[0])}, %")
    step = 1 if width >= 500 else 2
    chart.x_axis([(0.0, "0"), *power_marks(step, int(end), step)], title)
    base = next(row["controls"]["base"]["mean"] for row in rows)
    chart.path([(-0.4, base), (end, base)], "line base")
    # The one that it is all about last, so that no other hides it.
    for place, row in sorted(
        zip(places, rows, strict=True), key=lambda pair: pair[1]["method"] == "paramcast"
    ):
        own, name = row["controls"]["own"], _colour(row["method"])
        chart.path([(place, own["low"]), (place, own["high"])], f"whisker {name}")
        about = f"{row['method']}: {own['mean']:.1f} % [{own['low']:.1f}, {own['high']:.1f}], {cost(row):,}"
        chart.dot(place, own["mean"], f"dot {name}", about)
    chart.end_labels(
        [(row["controls"]["own"]["mean"], row["method"], _colour(row["method"])) for row in rows]
    )
    return chart.svg(f"{metric_name(rows[0])} of each method against {title}")


def _colour(method: str) -> str:
    """The class that the style sheet has a colour for."""
    return {"base": "base", "paramcast": "own", "shuffled": "shuffled"}.get(method, "constant")


def _place(value: float) -> float:
    return math.log10(value) if value >= 10 else value / 10  # so that 0 has a place


def power_marks(first: int, last: int, step: int = 1) -> list[tuple[float, str]]:
    """Powers of ten from 1 to 12 along an axis of logarithms: (value, words)."""
    words = ["10", "100", "1 k", "10 k", "100 k", "1 M", "10 M", "100 M", "1 G", "10 G", "100 G", "1 T"]
    return [(float(power), words[power - 1]) for power in range(first, last + 1, step)]


def _bytes(reuse: str, row: Row) -> float:
    total: float = row["cost"]["bytes_per_query"][reuse]
    return total


def _macs(row: Row) -> int:
    macs: int = row["cost"]["adapt_device_macs"]
    return macs
