"""Fill the tables of the methods' pages in `docs/methods/` from the files in `experiments/results/`.

python docs/build_methods.py            # rewrites the tables between the markers
python docs/build_methods.py --check    # changes nothing; exit code 1 if a page is not up to date

Each results file in a method's folder becomes the table `<!-- table: METHOD NAME -->` on the method's page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from marked_tables import RESULTS, ROOT, Row, fill, markdown, only_checking, results

from experiments.methods.cmda_ot import benchmark as cmda_ot
from experiments.methods.m3bat import benchmark as m3bat
from experiments.methods.mm_adapter.summary import markdown as summary

PAGES = ROOT / "docs/methods"
ADAPTERS = (
    "zero-shot",
    "linear probe",
    "CLIP-Adapter",
    "Tip-Adapter",
    "Tip-Adapter-F",
    "Multi-Modal Adapter",
)


def m3bat_tables() -> dict[str, str]:
    """Make a table for each data set: a row for each method, with the score of each domain pair."""
    made = {}
    for name, (about, kept) in _files("m3bat").items():
        rows = _m3bat_rows(kept)
        unit = "MAE" if rows[0]["metric"] == "mae" else "AUC, %"
        digits = 3 if unit == "MAE" else 1
        lines = [
            [
                row["method"],
                _figure(row, digits),
                *(_gain(row, f"against_{other}", digits) for other in ("source", "dann")),
                f"{100 * row['worse_share']:.0f} %",
                *(f"{value:.{digits}f}" for value in row["pairs"].values()),
            ]
            for row in rows
        ]
        against = ["against the source model", "against DANN", "worse than the source model"]
        table = markdown(["method", unit, *against, *rows[0]["pairs"]], lines)
        made[f"m3bat {name}"] = f"{_origin(about, name)}\n\n{table}"
    return made


def cmda_ot_tables() -> dict[str, str]:
    """Make the tables of methods by target, and the table of time and memory by number of samples."""
    made = {}
    for name, (about, rows) in _files("cmda_ot").items():
        if name == "scaling":
            head = ["what", "samples", "CPU seconds", "peak memory, MB", "of it before", "accuracy, %"]
            lines = [
                [
                    row["name"],
                    f"{row['samples']:,}",
                    f"{row['seconds']:.1f}",
                    f"{row['peak_mb']:.0f}",
                    f"{row['before_mb']:.0f}",
                    f"{row['accuracy']:.1f}",
                ]
                for row in rows
            ]
        else:
            targets = list(rows[0]["mean"])
            head = ["accuracy, %", *targets, "mean"]
            lines = [
                [
                    ("published: " if row.get("published") else "") + row["method"],
                    *(_of_target(row, target) for target in targets),
                    f"{sum(row['mean'].values()) / len(targets):.1f}",
                ]
                for row in _cmda_ot_rows(about, rows)
            ]
        made[f"cmda_ot {name}"] = f"{_origin(about, name)}\n\n{markdown(head, lines)}"
    return made


def mm_adapter_tables() -> dict[str, str]:
    """Make the tables of base, new and harmonic mean by task, shots and method, and the summary."""
    found = _files("mm_adapter")
    made = {}
    for name, (about, rows) in found.items():
        tasks = dict.fromkeys((row["data"], row["label"]) for row in rows)
        methods = dict.fromkeys(row["method"] for row in rows)
        lines = [
            [
                f"{data}, {label}",
                str(shots),
                *(_base_new(rows, data, label, shots, method) for method in methods),
            ]
            for data, label in tasks
            for shots in dict.fromkeys(row["shots"] for row in rows)
        ]
        table = markdown(["base / new / harmonic, %", "shots", *methods], lines)
        made[f"mm_adapter {name}"] = f"{_origin(about, name)}\n\n{table}"
    main = [mine for name, (_, mine) in found.items() if name != "masks"]
    if main:
        rows = [row for mine in main for row in mine]
        made["mm_adapter summary"] = "\n".join(summary(rows))
    return made


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    check = only_checking("Fill the tables of docs/methods/ from experiments/results/.")
    pages = {"m3bat": m3bat_tables(), "cmda_ot": cmda_ot_tables(), "mm_adapter": mm_adapter_tables()}
    return fill({PAGES / f"{name}.md": tables for name, tables in pages.items()}, check)


def _m3bat_rows(kept: Sequence[Row]) -> list[dict[str, Any]]:
    """Compute the rows of a file again from its scores, with their intervals."""
    scores = [m3bat.Score(method=row["method"], **each) for row in kept for each in row["scores"]]
    task = "regression" if kept[0]["metric"] == "mae" else "classification"
    return m3bat.rows(kept[0]["data"], task, scores)


def _cmda_ot_rows(about: Row, kept: Sequence[Row]) -> list[Row]:
    """Compute the rows of a file again from its runs; published rows have no runs and stay."""
    seeds = len(about["seed"])
    return [cmda_ot.row(row["method"], row["runs"], seeds) if "runs" in row else row for row in kept]


def _files(method: str) -> dict[str, tuple[Row, list[Row]]]:
    """Read the results files of a method: name -> the file's content, and its rows."""
    read = {path.stem: results(path) for path in sorted((RESULTS / method).glob("*.json"))}
    return {name: (about, about["rows"]) for name, about in read.items()}


def _origin(about: Row, name: str) -> str:
    """Format the line with the command, the commit and the number of seeds of a table."""
    seeds = len(about["seed"]) if isinstance(about["seed"], list) else 1
    return f"`{about['command']}`, commit {about['commit'][:7]}, {seeds} seed{'s' * (seeds > 1)}:"


def _figure(row: Row, digits: int) -> str:
    return f"{row['mean']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def _gain(row: Row, key: str, digits: int) -> str:
    gain: Mapping[str, float] | None = row.get(key)
    if not gain or gain["low"] == gain["high"] == 0:
        return ""
    return f"{gain['mean']:+.{digits}f} [{gain['low']:+.{digits}f}, {gain['high']:+.{digits}f}]"


def _of_target(row: Row, target: str) -> str:
    mean = f"{row['mean'][target]:.1f}"
    return f"{mean} [{row['low'][target]:.1f}, {row['high'][target]:.1f}]" if "low" in row else mean


def _base_new(rows: Sequence[Row], data: str, label: str, shots: int, method: str) -> str:
    """Format base / new / harmonic mean in percent, with '-' for a mean that is missing.

    Methods that cannot classify new classes have only the base mean.
    """
    for row in rows:
        if (row["data"], row["label"], row["shots"], row["method"]) == (data, label, shots, method):
            parts = (row["base"], row["new"], row["harmonic"])
            return " / ".join(f"{each['mean']:.1f}" if each else "-" for each in parts)
    return ""


if __name__ == "__main__":
    sys.exit(main())
