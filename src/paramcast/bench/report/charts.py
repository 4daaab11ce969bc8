"""Charts of the report page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paramcast.bench.report.svg import Chart, room, ticks
from paramcast.bench.table import CONTROLS, metric_name

Row = Mapping[str, Any]


def controls_chart(rows: Sequence[Row], width: int) -> str:
    """Draw each control against the number of support clips, with its interval as a band.

    Args:
        rows: Rows of one metric, by ascending support.
        width: Width in pixels.
    """
    values = [row["controls"][name][edge] for row in rows for name in CONTROLS for edge in ("low", "high")]
    places = [math.log2(row["support"]) for row in rows]
    margin = 0.0 if len(rows) > 1 else 1.0
    chart = Chart(width, 330, (places[0] - margin, places[-1] + margin), room(values), right=78, top=22)
    chart.y_axis(f"{metric_name(rows[0])}, %")
    chart.x_axis(
        [(place, str(row["support"])) for place, row in zip(places, rows, strict=True)],
        "support clips (unlabeled)",
    )
    for name in CONTROLS:
        _line(chart, rows, places, name)
    last = rows[-1]["controls"]
    chart.end_labels([(last[name]["mean"], name, name) for name in CONTROLS])
    return chart.svg(f"{metric_name(rows[0])} of each control against the number of support clips")


def _line(chart: Chart, rows: Sequence[Row], places: Sequence[float], name: str) -> None:
    found = [row["controls"][name] for row in rows]
    if len(rows) == 1:
        chart.path([(places[0], found[0]["low"]), (places[0], found[0]["high"])], f"line {name}")
    else:
        low = [(place, value["low"]) for place, value in zip(places, found, strict=True)]
        high = [(place, value["high"]) for place, value in zip(places, found, strict=True)]
        chart.path([*high, *reversed(low)], f"band {name}", closed=True)
        chart.path([(p, value["mean"]) for p, value in zip(places, found, strict=True)], f"line {name}")
    for place, row, value in zip(places, rows, found, strict=True):
        title = (
            f"{name}, {row['support']} clips: {value['mean']:.1f} % [{value['low']:.1f}, {value['high']:.1f}]"
        )
        chart.dot(place, value["mean"], f"dot {name}", title)


def devices_chart(devices: Sequence[str], gains: np.ndarray, width: int) -> str:
    """Draw the gain of every device, from the worst to the best.

    Args:
        devices: Ids.
        gains: (N,) points of own - base.
        width: Width in pixels.
    """
    order = np.argsort(gains, kind="stable")
    low, high = room([0.0, *gains.tolist()])
    chart = Chart(width, 260, (-0.75, len(gains) - 0.25), (low, high), top=22, bottom=26)
    chart.y_axis("own - base, points")
    for place, index in enumerate(order):
        gain = gains[index]
        side = "lost" if gain < 0 else "won"
        chart.bar(place, 0.72, float(gain), f"bar {side}", f"{devices[index]}: {gain:+.1f} points")
    chart.text((chart.left + width) / 2, 252, "devices, from worst to best", "middle", "tick")
    return chart.svg("Gain of each device over the base model, sorted")


def bytes_chart(rows: Sequence[Row], width: int) -> str:
    """Draw the score after adaptation against the bytes of an adaptation, up and down.

    Args:
        rows: Rows of one metric, with costs, by ascending support.
        width: Width in pixels.
    """
    spent = [row["cost"]["bytes_up"] + row["cost"]["bytes_down"] for row in rows]
    own, base = [row["controls"]["own"] for row in rows], rows[0]["controls"]["base"]
    edges = [value[edge] for value in (*own, base) for edge in ("low", "high")]
    end = max(spent) * 1.06
    chart = Chart(width, 300, (0, end), room(edges), top=22, right=62)
    chart.y_axis(f"{metric_name(rows[0])}, %")
    chart.x_axis(_byte_marks(end, 4 if width < 500 else 7), "bytes of one adaptation, up and down")
    chart.path(
        [(0, base["low"]), (end, base["low"]), (end, base["high"]), (0, base["high"])], "band base", True
    )
    chart.path([(0, base["mean"]), (end, base["mean"])], "line base")
    chart.dot(0, base["mean"], "dot base", f"base, no bytes: {base['mean']:.1f} %")
    chart.end_labels([(base["mean"], "base", "base")])
    chart.path([(x, value["mean"]) for x, value in zip(spent, own, strict=True)], "line own")
    for x, value, row in zip(spent, own, rows, strict=True):
        chart.path([(x, value["low"]), (x, value["high"])], "whisker own")
        title = f"{row['support']} clips, {x:,} bytes: {value['mean']:.1f} %"
        chart.dot(x, value["mean"], "dot own", title)
        chart.text(
            chart.at(x, 0)[0], chart.at(0, value["high"])[1] - 6, str(row["support"]), "middle", "end own"
        )
    return chart.svg("Accuracy against the bytes of an adaptation; points are numbers of support clips")


def _byte_marks(end: float, about: int) -> list[tuple[float, str]]:
    return [(tick, f"{tick / 1000:g} kB" if tick else "0") for tick in ticks(0, end, about)]
