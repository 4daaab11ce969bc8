"""The report of an evaluation: rows, a table for the terminal, and an HTML page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.files import write_bytes
from paramcast.training.controls import Result
from paramcast.training.statistics import interval

LEGEND = {
    "base": "no update",
    "constant": "one update for all devices",
    "shuffled": "the update of another device",
    "own": "the device's own update",
    "oracle": "an update from the true domain",
    "best_free": "the best baseline without labels and cloud",
    "start": "what own updates start from, alone",
    "ungated": "own updates without the gain predictor",
}
GAINS = (
    ("gain", "gain", "own against the better of base and constant"),
    ("personal", "own_minus_shuffled", "own against shuffled"),
    ("over free", "own_minus_best_free", "own against best_free"),
)
"""For each gain: its name in tables, its key in a row, and the controls that it compares."""


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes:
        results: The results, one for each metric and support size.
        costs: The cost ledger of each result; None where costs were not measured.
        summary: The summary of training.
        seed: Seed of the evaluation.
        task, shift: The task of the model, and the shifts between devices.
    """

    results: tuple[Result, ...]
    costs: tuple[Mapping[str, Any] | None, ...]
    summary: Mapping[str, Any]
    seed: int
    task: str = "module"
    shift: str = "given"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each result, as JSON types: the format of a results file."""
        return [
            {
                "task": self.task,
                "shift": self.shift,
                "support": result.support,
                "devices": len(result.devices),
                "metric": result.metric.name,
                "controls": {name: interval(values).json() for name, values in result.values.items()},
                "gain": result.gain.json(),
                "own_minus_shuffled": result.device_matters.json(),
                "own_minus_best_free": None
                if result.gain_over_free is None
                else result.gain_over_free.json(),
                "recovery": None if result.recovery is None else round(result.recovery, 4),
                "worse_share": round(result.worse_share, 4),
                "cost": None if cost is None else dict(cost),
            }
            for result, cost in zip(self.results, self.costs, strict=True)
        ]

    def table(self) -> str:
        """Return a table for the terminal: controls with their intervals, gains, and the costs."""
        lines = []
        for row in self.rows:
            about = f"{row['metric']} on {row['devices']} devices, {row['support']} support examples"
            lines.append(f"{about} (mean [95 % interval])")
            lines += [
                f"  {name:10} {shown(each)}   {LEGEND.get(name, '')}"
                for name, each in row["controls"].items()
            ]
            for name, key, against in GAINS:
                if row[key]:
                    lines.append(f"  {name:10} {shown(row[key], signed=True)}   {against}")
            recovery, cost = row["recovery"], row["cost"]
            told = "" if recovery is None else f", {100 * recovery:.0f} % of the oracle's gain"
            lines.append(f"  {100 * row['worse_share']:.0f} % of devices lose more than a point{told}")
            if cost:
                lines.append(f"  {cost['bytes_up']} bytes up, {cost['bytes_down']} down, no labels")
                lines.append(f"  what leaves the device: {cost['leaves_the_device']}")
            lines.append("")
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """Return the conclusion from the controls, in one sentence."""
        row = self.rows[-1]
        gain, personal = row["gain"], row["own_minus_shuffled"]
        if gain["high"] < 0:
            return "Updates do harm here: do not send them."
        if gain["low"] <= 0:
            return "No gain is shown: its interval reaches 0."
        if personal["low"] <= 0:
            return "There is a gain, but another device's update is not shown to be worse."
        return "There is a gain, and it is the device's own update that makes it."

    def save(self, path: Path | str) -> Path:
        """Write the report: as a page in one file, or as rows if the name ends in `.json`.

        Args:
            path: The file; its suffix decides.
        """
        path = Path(path)
        if path.suffix == ".json":
            from paramcast.results import write_results

            write_results(path, "evaluate", self.seed, self.rows)
        else:
            write_bytes(path, self._page().encode())
        return path

    def _page(self) -> str:
        import jinja2
        from markupsafe import Markup

        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("paramcast.training", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        charts = [Markup(_chart(result)) for result in self.results]  # the SVG is made here, so it is safe
        return environment.get_template("report.html.j2").render(
            verdict=self.verdict(),
            parts=list(zip(self.rows, charts, strict=True)),
            legend=LEGEND,
            gains=GAINS,
        )


def shown(each: Mapping[str, float], *, signed: bool = False) -> str:
    """Format a mean with its interval."""
    form = "+.2f" if signed else ".2f"
    return f"{each['mean']:{form}} [{each['low']:{form}}, {each['high']:{form}}]"


def _chart(result: Result) -> str:
    """Draw the controls with their intervals, and each device's gain, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    left, right = figure.subplots(1, 2)
    names = list(result.values)
    found = [interval(result.values[name]) for name in names]
    means = np.array([each.mean for each in found])
    spread = np.array([[each.mean - each.low for each in found], [each.high - each.mean for each in found]])
    left.errorbar(means, range(len(names)), xerr=spread, fmt="o", color="#3949ab", capsize=3)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel(result.metric.name)
    gains = np.sort(result.better("own", "base"))
    right.bar(range(len(gains)), gains, color=["#2e7d32" if gain >= 0 else "#c62828" for gain in gains])
    right.set_xlabel("devices, by gain")
    right.set_ylabel("own update against base")
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
