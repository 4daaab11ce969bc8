"""Page of the experiment `bytes`: the score under updates of each form, by their bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bytes import BYTES_COLUMNS, DOWN, cells, verdict
from paramcast.bench.report.compare import power_marks
from paramcast.bench.report.page import both, render
from paramcast.bench.report.svg import Chart, room
from paramcast.files import write_bytes

Row = Mapping[str, Any]

_COLOURS = {"full": "shuffled", "residual": "oracle", "lowrank": "constant", "codes": "own"}
"""Family of forms -> class of the style sheet, which sets its color."""


def write_bytes_page(path: Path | str, results: Mapping[str, Any]) -> None:
    """Write the page: one file that needs no network.

    Args:
        path: The HTML file.
        results: Results of `python -m experiments bytes`.
    """
    rows = results["rows"]
    page = render(
        Path(__file__).with_name("bytes.html.j2"),
        results,
        about=rows[0],
        verdict=verdict(rows),
        chart=both(packages_chart, rows),
        columns=BYTES_COLUMNS,
        rows=[(row["name"], cells(row)) for row in rows],
    )
    write_bytes(path, page.encode())


def packages_chart(rows: Sequence[Row], width: int) -> str:
    """Draw scores against the bytes of an update, by powers of ten; a line joins a form's quantizations.

    Args:
        rows: Rows of `python -m experiments bytes`.
        width: Width in pixels.
    """
    places = [math.log10(row["bytes_down"]) for row in rows]
    edges = [row["own"][edge] for row in rows for edge in ("low", "high")]
    base = rows[0]["reference"]["mean"]
    start, end = math.floor(min(places)), max(places) + 0.2
    chart = Chart(width, 380, (start, end), room([*edges, base]), top=22, right=84)
    chart.y_axis(f"{rows[0]['metric']}, %")
    chart.x_axis(power_marks(start, int(end)), "bytes of a package")
    chart.path([(start, base), (end, base)], "line base")
    chart.path([(math.log10(DOWN), edge) for edge in chart.y], "zero")
    forms: dict[str, list[tuple[float, Row]]] = {}
    for place, row in zip(places, rows, strict=True):
        forms.setdefault(row["form"], []).append((place, row))
    for form, found in forms.items():
        colour = _COLOURS[form.split()[0]]
        chart.path([(place, row["own"]["mean"]) for place, row in found], f"line {colour}")
        for place, row in found:
            own = row["own"]
            chart.path([(place, own["low"]), (place, own["high"])], f"whisker {colour}")
            about = f"{own['mean']:.1f} % [{own['low']:.1f}, {own['high']:.1f}], {row['bytes_down']:,} bytes"
            chart.dot(place, own["mean"], f"dot {colour}", f"{row['name']}: {about}")
    labels = [(found[0][1]["own"]["mean"], form, _COLOURS[form.split()[0]]) for form, found in forms.items()]
    chart.end_labels([*labels, (base, "no package", "base")])
    return chart.svg(f"{rows[0]['metric']} of each form and quantization against the bytes of a package")
