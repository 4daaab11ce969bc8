"""Fill the tables of `results.md`, and draw its figures, from the committed files in `experiments/results/`.

    python docs/build_results.py            # rewrites the tables between the markers, and docs/figures/
    python docs/build_results.py --check    # changes nothing; exit code 1 if the page is not up to date

So no number on that page is typed by hand.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from marked_tables import RESULTS, ROOT, Row, fill, markdown, only_checking, rows_of

from paramcast.training.statistics import over_seeds

PAGE, FIGURES = ROOT / "docs/results.md", ROOT / "docs/figures"
CONTROLS = ("base", "constant", "shuffled", "own", "oracle")
COLLECTIONS = {"demo": "demo world", "msrvtt": "MSR-VTT", "youcook2": "MSR-VTT to YouCook2"}
VIEWS = {"": "as they are", "_camera": "under cameras"}
FORETOLD = {
    "nll_reasoner": "ADR: negative log-likelihood, nats a dimension",
    "nll_shrunk_anchor": "least squares on the anchor",
    "nll_anchor": "repeat the anchor",
    "nll_plain": "plain Gaussian of the training clips",
    "coverage": "ADR: % of clips in intervals of 90 %",
}
EVIDENCE = {
    "clip": "whole clips",
    "anchor": "anchors alone",
    "reasoner": "anchors and the ADR",
    "reasoner, 2 anchors": "2 anchors a clip and the ADR",
    "reasoner, 4 anchors": "4 anchors a clip and the ADR",
}
Key = tuple[str, str, str, str, int]
"""Collection, task, shift, metric, number of support clips."""


def evaluations() -> dict[Key, list[Row]]:
    """Read the rows of `adaptation/COLLECTION-...-SEED.json` by their keys, one row for each seed."""
    found: dict[Key, list[Row]] = defaultdict(list)
    for path in sorted((RESULTS / "adaptation").glob("*.json")):
        collection = path.stem.split("-")[0]
        for row in rows_of(path):
            found[collection, row["task"], row["shift"], _figure(row), row["support"]].append(row)
    return found


def adaptation_table(found: Mapping[Key, Sequence[Row]]) -> str:
    """Make a table with a line for each collection, task, shift, metric and support size; with all seeds."""
    head = [
        "collection, task",
        "shift, figure",
        "clips",
        *CONTROLS,
        "gain",
        "of each seed",
        "recovery",
        "worse",
    ]
    lines = []
    for (collection, task, shift, figure, support), rows in found.items():
        if figure.startswith("R@5"):  # it always lies between R@1 and R@10
            continue
        controls = [_mean(row["controls"][name]["mean"] for row in rows) for name in CONTROLS]
        room = _mean(_room(row) for row in rows)
        gains = [row["gain"] for row in rows]
        recovery = f"{100 * _mean(gain['mean'] for gain in gains) / room:.0f} %" if room > 0.5 else "no room"
        lines.append(
            [
                f"{COLLECTIONS[collection]}, {task}",
                f"{shift}, {figure}",
                str(support),
                *(f"{value:.1f}" for value in controls),
                _over_seeds(gain["mean"] for gain in gains),
                "; ".join(_interval(gain) for gain in gains),
                recovery,
                f"{100 * _mean(row['worse_share'] for row in rows):.0f} %",
            ]
        )
    return markdown(head, lines)


def bytes_table(found: Mapping[str, Sequence[Row]]) -> str:
    """Make the table of every form in int8 and of codes in every quantization, with all seeds."""
    best = max(_mean(row["value"] for row in rows) for rows in found.values())
    lines = []
    for rows in found.values():
        row, gain = rows[0], _mean(row["value"] for row in rows)
        if row["quantization"] == "int8" or row["form"].startswith("codes"):
            sizes = f"{max(row['bytes_down'] for row in rows):,}"
            lines.append(
                [row["form"], row["quantization"], sizes, *_by_seed(rows), f"{100 * gain / best:.0f} %"]
            )
    return markdown(["form", "quantization", "bytes down", "gain", "of each seed", "of the best"], lines)


def adr_table(found: Mapping[str, Sequence[Row]]) -> str:
    """Make the tables of predictions of a clip's mean feature, and of the gain by the evidence in a request.

    Both have the values of all seeds.
    """
    foretold = [
        [
            said,
            *("; ".join(f"{row['value']:.2f}{_edges(row)}" for row in found[name + view]) for view in VIEWS),
        ]
        for name, said in FORETOLD.items()
    ]
    counts = {view: [f"{row['value']:.0f}" for row in found[f"clips{view}"]] for view in VIEWS}
    head = [f"{', '.join(counts[view])} clips {said}" for view, said in VIEWS.items()]
    whole = _mean(row["value"] for row in found["gain_clip"])
    gained = []
    for name, said in EVIDENCE.items():
        rows = found[f"gain_{name}"]
        share = _mean(row["value"] for row in rows) / whole
        up = f"{found[f'bytes_up_{name}'][0]['value']:.0f}"
        gained.append([said, up, *_by_seed(rows), f"{100 * share:.0f} %"])
    return "\n\n".join(
        [
            markdown(["a clip's mean feature", *head], foretold),
            markdown(
                ["packages made from", "bytes a clip", "gain", "of each seed", "of the whole clip's"], gained
            ),
        ]
    )


def seeds(folder: str) -> dict[str, list[Row]]:
    """Read the rows of `experiments/results/FOLDER/SEED.json` by their names, one row for each seed."""
    found: dict[str, list[Row]] = defaultdict(list)
    for path in sorted((RESULTS / folder).glob("*.json")):
        for row in rows_of(path):
            found[row["name"]].append(row)
    return found


def compare_table(paths: Sequence[Path]) -> str:
    """Make a table for each main metric, with a line for each method: gains by seed, and costs."""
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        for row in rows_of(path):
            found[_figure(row)][row["method"]].append(row)
    main = [figure for place, figure in enumerate(found) if place == 0 or figure == "R@10, own clips"]
    return "\n\n".join(_compared(figure, found[figure]) for figure in main)


def _compared(figure: str, methods: Mapping[str, Sequence[Row]]) -> str:
    lines = []
    for method, rows in methods.items():
        cost, gains = rows[0]["cost"], [row["gain"]["mean"] for row in rows]
        line = {
            f"{figure} (base {_mean(_of(row, 'base') for row in methods['base']):.1f} %)": method,
            "labels": f"{cost['labels']:.0f}",
            "gain": _over_seeds(gains),
            "of each seed": "; ".join(_interval(row["gain"]) for row in rows),
            "in hindsight": _hindsight(rows),
            "worse": f"{100 * _mean(row['worse_share'] for row in rows):.0f} %",
            "bytes": f"{cost['bytes_per_query']['1']:,.0f}",
            "million MACs": f"{cost['adapt_device_macs'] / 1e6:,.1f}",
        }
        lines.append((_mean(gains), line))
    ordered = [line for _, line in sorted(lines, key=lambda one: -one[0])]
    head = [name for name in ordered[0] if any(line[name] for line in ordered)]
    return markdown(head, [[line[name] for name in head] for line in ordered])


def _hindsight(rows: Sequence[Row]) -> str:
    """Format the gain of the setting that is best in hindsight; '' where a method has no settings."""
    if any(row["hindsight"] is None for row in rows):
        return ""
    return f"{_mean(row['hindsight'] - _of(row, 'base') for row in rows):+.1f}"


def headroom_table(paths: Sequence[Path]) -> str:
    """Make a table with a line for each shift and main metric, at 8 clips: gain and room (oracle, labels)."""
    lines = []
    for path in paths:
        for row in rows_of(path):
            if row["support"] == 8 and not _figure(row).startswith("R@5"):
                room = row["room"]
                lines.append(
                    [
                        f"{_collection(path)}, {row['task']}",
                        f"{row['shift']}, {_figure(row)}",
                        *(f"{_of(row, control):.1f}" for control in ("base", "own", "oracle")),
                        f"{row['labeled']['mean']:.1f}",
                        f"{row['labels']:.0f}",
                        *(_interval(gain) for gain in (row["gain"], room["oracle"], room["labeled"])),
                    ]
                )
    head = ["collection, task", "shift, figure", "base", "own", "oracle", "labeled", "labels", "gain"]
    return markdown([*head, "room, oracle", "room, labeled"], lines)


def gate_table(paths: Sequence[Path]) -> str:
    """Make a table with a line for each shift: all packages, and the packages that pass the gate."""
    lines = []
    for path in paths:
        rows = rows_of(path)
        for row in rows:
            if row["shift"] == "all" and len(rows) == 2:
                continue
            lines.append(
                [
                    f"{_collection(path)}, {path.stem.split('-')[1]}",
                    "all of these" if row["shift"] == "all" else row["shift"],
                    f"{row['devices']}",
                    f"{100 * row['passed']:.0f} %",
                    *(_interval(row[gain]) for gain in ("open", "gated")),
                    f"{100 * row['kept']['mean']:.0f} %" if row["kept"] else "no gain",
                    *(f"{100 * row[worse]:.1f} %" for worse in ("worse_open", "worse_gated")),
                ]
            )
    head = ["collection, task", "shift", "devices", "let through", "gain of all packages", "with the gate"]
    return markdown([*head, "kept", "worse: all packages", "worse: with the gate"], lines)


def anchors_table(paths: Sequence[Path]) -> str:
    """Make a table with a line for each collection and each rule that chooses the frame to send."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for path in paths:
        for row in rows_of(path):
            found[_collection(path), row["name"]].append(row)
    lines = []
    for (collection, name), rows in found.items():
        if name.startswith("gain_"):
            rule = name.removeprefix("gain_")
            over = found.get((collection, f"{rule}_over_middle"), [])
            beyond = "; ".join(_interval(row, "value") for row in over)
            lines.append([collection, rule, *_by_seed(rows), beyond])
    return markdown(["collection", "frame", "gain", "of each seed", "over the middle one"], lines)


def adaptation_figure(found: Mapping[Key, Sequence[Row]], path: Path) -> None:
    """Draw the gain of each seed and its interval at 8 clips, with a line for each shift and metric."""
    shown = [(key, rows) for key, rows in found.items() if key[-1] == 8 and not key[3].startswith("R@5")]
    fig, axes = plt.subplots(figsize=(8, 0.42 * len(shown) + 1))
    for place, (_, rows) in enumerate(reversed(shown)):
        for number, row in enumerate(rows):
            gain, height = row["gain"], place + 0.18 * (number - (len(rows) - 1) / 2)
            axes.plot([gain["low"], gain["high"]], [height, height], color="#2b6cb0", lw=1.6)
            axes.plot(gain["mean"], height, "o", color="#2b6cb0", ms=4)
        room = _mean(_room(row) for row in rows)
        axes.plot([room, room], [place - 0.35, place + 0.35], color="#c05621", lw=2)
    labels = [f"{COLLECTIONS[key[0]]}: {key[2]}, {key[3]}" for key, _ in reversed(shown)]
    axes.set_yticks(range(len(shown)), labels)
    axes.axvline(0, color="#888888", lw=0.8)
    axes.set_xlabel("gain, points: a dot a seed, 95 % interval; bar: the oracle")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#e2e2e2", lw=0.6)
    _save(fig, path)


def bytes_figure(found: Sequence[Sequence[Row]], path: Path) -> None:
    """Draw the gain over the bytes of a package by form: the mean and the range of the seeds."""
    fig, axes = plt.subplots(figsize=(8, 4))
    for form in dict.fromkeys(rows[0]["form"] for rows in found):
        mine = sorted(
            (rows for rows in found if rows[0]["form"] == form), key=lambda rows: rows[0]["bytes_down"]
        )
        sizes = [rows[0]["bytes_down"] for rows in mine]
        gains = np.array([[row["value"] for row in rows] for rows in mine])
        middle = gains.mean(1)
        spread = np.stack([middle - gains.min(1), gains.max(1) - middle])
        axes.errorbar(sizes, middle, spread, fmt="o-", ms=4, lw=1.2, elinewidth=0.7, capsize=2, label=form)
    axes.axvline(600, color="#888888", lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel("bytes of a signed package; dotted: 600")
    axes.set_ylabel("gain, points: mean and range of the seeds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2)
    _save(fig, path)


def tables(found: Mapping[Key, Sequence[Row]]) -> dict[str, str]:
    """Make the tables of the page by the names of their markers, where there are results files."""
    made = {"adaptation": adaptation_table(found)}
    made |= {"bytes": bytes_table(seeds("bytes")), "adr": adr_table(seeds("adr"))}
    for name, table in (("headroom", headroom_table), ("gate", gate_table), ("anchors", anchors_table)):
        made[name] = table(sorted((RESULTS / name).glob("*.json"), key=lambda path: path.stem))
    for name in sorted({path.stem.rsplit("-", 1)[0] for path in (RESULTS / "compare").glob("*.json")}):
        made[f"compare {name}"] = compare_table(sorted((RESULTS / "compare").glob(f"{name}-*.json")))
    return made


def main() -> int:
    """Write the page and its figures, or check the page; return the exit code."""
    check = only_checking("Fill the tables of docs/results.md from experiments/results/.")
    found = evaluations()
    code = fill({PAGE: tables(found)}, check)
    if check:
        return code
    FIGURES.mkdir(exist_ok=True)
    adaptation_figure(found, FIGURES / "adaptation.svg")
    bytes_figure(list(seeds("bytes").values()), FIGURES / "bytes.svg")
    return 0


def _collection(path: Path) -> str:
    """Return the collection of a results file, by the file's name."""
    return COLLECTIONS[path.stem.split("-")[0]]


def _figure(row: Row) -> str:
    name = row["metric"].replace("r@", "R@").replace("top1", "top-1")
    return name + {"device": ", own clips", "collection": ", all clips"}.get(row.get("gallery", ""), "")


def _of(row: Row, control: str) -> float:
    return float(row["controls"][control]["mean"])


def _room(row: Row) -> float:
    """Compute the gain of the oracle over the better of base and constant control."""
    controls = row["controls"]
    return float(controls["oracle"]["mean"] - max(controls[name]["mean"] for name in ("base", "constant")))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _interval(row: Row, mean: str = "mean") -> str:
    return f"{row[mean]:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"


def _by_seed(rows: Sequence[Row]) -> tuple[str, str]:
    """Format the mean of the seeds with its interval, and each seed with its interval over devices."""
    return _over_seeds(row["value"] for row in rows), "; ".join(_interval(row, "value") for row in rows)


def _over_seeds(values: Iterable[float]) -> str:
    """Format the mean of the seeds' values and its Student's t interval; one seed has no interval."""
    kept = np.array(list(values))
    found = over_seeds(kept)
    return _interval(vars(found)) if len(kept) > 1 else f"{found.mean:+.1f}"


def _edges(row: Row) -> str:
    return f" [{row['low']:.2f}, {row['high']:.2f}]" if "low" in row else ""


def _save(fig: Any, path: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = path.stem  # so that the same results give the same bytes
    fig.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(fig)


if __name__ == "__main__":
    sys.exit(main())
