"""CMDA-OT's command line on tables of one's own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_cmda_ot import make_domains

from paramcast.methods.cmda_ot.__main__ import command
from paramcast.methods.tables import TableError, read_table

NAMES = ("ant", "bee", "cow")
COLUMNS = ("a", "b", "c", "d")


def write(path: Path, X: np.ndarray, y: np.ndarray | None, columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(["kind"] if y is not None else [])])
        for number, row in enumerate(X):
            writer.writerow([*row, *([NAMES[y[number]]] if y is not None else [])])
    return path


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    X, y, domain = make_domains()
    parts = {"first": 1, "second": 2, "target": -1}
    return [
        write(tmp_path / f"{name}.csv", X[domain == number], y[domain == number])
        for name, number in parts.items()
    ]


def arguments(tables: list[Path], out: Path) -> list[str]:
    first, second, target = map(str, tables)
    return [
        "adapt", "--source", first, "--source", second, "--target", target, "--label", "kind",
        "--out", str(out),
    ]  # fmt: skip


def test_labels_a_table(tables: list[Path], tmp_path: Path) -> None:
    out, figures = tmp_path / "out.csv", tmp_path / "figures.json"
    # Columns are found by name: the second source has them in another order.
    table = read_table(tables[1], "kind")
    assert table.y is not None
    order = [2, 0, 3, 1]
    codes = np.array([NAMES.index(name) for name in table.y])
    write(tables[1], table.X[:, order], codes, tuple(COLUMNS[place] for place in order))
    asked = [*arguments(tables, out), "--json", str(figures)]
    run = [sys.executable, "-m", "paramcast.methods.cmda_ot", *asked]
    printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["accuracy"] > 90
    assert f"accuracy on {tables[2]}: {row['accuracy']} %" in printed
    with out.open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    truth = read_table(tables[2], "kind").y
    assert header == ["kind", *(f"p({name})" for name in NAMES)]
    assert 100 * np.mean([row[0] for row in rows] == truth) == pytest.approx(row["accuracy"], abs=0.01)
    assert all(abs(sum(map(float, row[1:])) - 1) < 1e-3 for row in rows)


def test_a_target_without_labels(tables: list[Path], tmp_path: Path) -> None:
    X = read_table(tables[2], "kind").X
    write(tables[2], X, None)
    result = CliRunner().invoke(command, arguments(tables, tmp_path / "out.csv"), catch_exceptions=False)
    assert result.exit_code == 0
    assert "accuracy" not in result.output
    assert f"{len(X)} labels in" in result.output


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        (0, "a,b,c,d,kind\n1,2,x,4,ant\n", "line 2, column c: 'x' is no finite number"),
        (0, "a,b,c,d,kind\n1,2,inf,4,ant\n", "line 2, column c: 'inf' is no finite number"),
        (0, "a,b,c,d,kind\n1,2,3,4\n", "line 2: 4 cells under 5 columns"),
        (0, "a,b,c,d,kind\n", "no rows"),
        (0, "", "must name the columns"),
        (0, "a,a,c,d,kind\n1,2,3,4,ant\n", "each once"),
        (0, "a,b,c,d\n1,2,3,4\n", "has no column 'kind'"),
        (0, "a,b,c,d,kind\n1,2,3,4,\n", "'kind' is empty in some row"),
        (0, "a,b,c,kind\n1,2,3,ant\n", "lacks the columns d"),
        (0, "a,b,c,d,e,kind\n1,2,3,4,5,ant\n", "has, but the target lacks, the columns e"),
        (2, "a,b,c,d\n", "no rows"),
    ],
)
def test_tables_that_cannot_be_used_are_told(
    tables: list[Path], tmp_path: Path, place: int, text: str, message: str
) -> None:
    tables[place].write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=message) as caught:
        CliRunner().invoke(command, arguments(tables, tmp_path / "out.csv"), catch_exceptions=False)
    assert str(tables[place]) in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none\.csv cannot be read"):
        read_table(tmp_path / "none.csv", "label")
