"""M3BAT's command line on tables of one's own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
import numpy as np
import pytest

from experiments.methods.m3bat.makers import make_shifted
from paramcast.errors import InputError
from paramcast.methods.m3bat.__main__ import command
from paramcast.methods.m3bat.estimators import STRENGTHS
from paramcast.methods.tables import read_table

COLUMNS = tuple(f"c{number}" for number in range(16))


def write(path: Path, X: np.ndarray, y: np.ndarray | None) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(["kind"] if y is not None else [])])
        writer.writerows([*row, *([y[number]] if y is not None else [])] for number, row in enumerate(X))
    return path


def tables(folder: Path, task: str, known: bool = True) -> list[str]:
    made = make_shifted(rows=120, offset=1.5, gain=1.0, task=task)  # type: ignore[arg-type]
    y = made.y if task == "regression" else np.where(made.y == 1, "ill", "well")
    source = made.sample_domain > 0
    half = np.arange(len(source)) % 2 == 0
    parts = {"first": source & half, "second": source & ~half, "target": ~source}
    first, second, target = (
        str(write(folder / f"{name}.csv", made.X[rows], y[rows] if known or name != "target" else None))
        for name, rows in parts.items()
    )
    return ["adapt", "--source", first, "--source", second, "--target", target, "--label", "kind"]


MODALITIES = [
    "--modality",
    "steady=" + ",".join(COLUMNS[:8]),
    "--modality",
    "drifting=" + ",".join(COLUMNS[8:]),
]


@pytest.mark.parametrize(
    ("task", "score"), [("classification", "accuracy"), ("regression", "mean absolute error")]
)
def test_labels_a_table_and_tells_the_shift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, score: str
) -> None:
    out, plot, figures = (tmp_path / name for name in ("out.csv", "shift.png", "figures.json"))
    asked = [*tables(tmp_path, task), *MODALITIES, "--out", str(out), "--plot", str(plot), "--steps", "60"]
    kind = ["--task", "numbers"] if task == "regression" else []
    command.main([*asked, *kind, "--json", str(figures)], standalone_mode=False)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.split() == ["feature", "branch", "d"]
    assert [line.split()[1] for line in lines[:8]] == ["drifting"] * 8  # what has shifted comes first
    assert plot.read_bytes()[:4] == b"\x89PNG"
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["strength"] in STRENGTHS["adversarial"]
    with out.open(encoding="utf-8") as file:
        told = np.array([line[0] for line in csv.reader(file)][1:])
    truth = read_table(tmp_path / "target.csv", "kind").y
    assert truth is not None
    if task == "regression":
        found = np.abs(told.astype(float) - truth.astype(float)).mean()
        assert found < np.abs(truth.astype(float)).mean()
    else:
        found = 100 * (told == truth).mean()
        assert found > 55
    assert found == pytest.approx(row[score], rel=1e-2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--modality", "steady=c0,zz"], "the tables have no column 'zz'"),
        (["--modality", "c0,c1"], "write NAME=COLUMN"),
        (["--modality", "a=c0", "--modality", "b=c0"], "keep one"),
        (["--task", "numbers"], r"first\.csv, line 2, column kind: '\w+' is no finite number"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, more: list[str], message: str) -> None:
    asked = [*tables(tmp_path, "classification", known=False), *more, "--out", str(tmp_path / "out.csv")]
    with pytest.raises((InputError, click.UsageError), match=message):
        command.main(asked, standalone_mode=False)
    assert not (tmp_path / "out.csv").exists()
