"""CSV tables of the command line: a header, numbers, and a separate column for the label."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paramcast.errors import InputError
from paramcast.files import replacing


class TableError(InputError, ValueError):
    """A table cannot be used; the message names the table, the place and the reason."""


@dataclass(frozen=True)
class Table:
    """Table of one domain.

    Attributes:
        columns: Names of the features.
        X: (N, D) float64, finite.
        y: (N,) str, or None where there is no column of labels.
    """

    columns: tuple[str, ...]
    X: np.ndarray
    y: np.ndarray | None

    def ordered(self, columns: tuple[str, ...], path: Path) -> np.ndarray:
        """Return X with its columns in the given order.

        Raises:
            TableError: A column is missing, or there are other columns.
        """
        for have, want, problem in (
            (self.columns, columns, "lacks"),
            (columns, self.columns, "has, but the target lacks,"),
        ):
            missing = [name for name in want if name not in have]
            if missing:
                raise TableError(f"{path} {problem} the columns {', '.join(missing)}")
        return self.X[:, [self.columns.index(name) for name in columns]]


def read_table(path: Path, label: str) -> Table:
    """Read a CSV file whose first line names the columns.

    Args:
        path: The file.
        label: Name of the column of labels, which may be absent.

    Raises:
        TableError: The file cannot be read, has no rows, or a cell is no finite number; the message
            names the line and the column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if len(set(header)) != len(header) or not any(name != label for name in header):
        raise TableError(f"{path}: its first line must name the columns, each once")
    if not rows:
        raise TableError(f"{path} has no rows below its first line")
    for line, row in rows:
        if len(row) != len(header):
            raise TableError(f"{path}, line {line}: {len(row)} cells under {len(header)} columns")
    places = [place for place, name in enumerate(header) if name != label]
    X = np.array([[_number(row[p], path, line, header[p]) for p in places] for line, row in rows])
    y = np.array([row[header.index(label)] for _, row in rows]) if label in header else None
    return Table(tuple(header[p] for p in places), X, y)


def read_source(path: Path, label: str, target: Table) -> tuple[np.ndarray, np.ndarray]:
    """Read a labeled table, and put its columns in the order of the target's columns.

    Args:
        path: The file.
        label: Name of the column of labels.
        target: Table with the columns that the source must have.

    Returns:
        X (N, D) float64 and y (N,) str.

    Raises:
        TableError: See `read_table`; or labels or columns are missing.
    """
    table = read_table(path, label)
    if table.y is None:
        raise TableError(f"{path} has no column {label!r}: name the column of its labels with --label")
    if (table.y == "").any():
        raise TableError(f"{path}: {label!r} is empty in some row; a source needs all labels")
    return table.ordered(target.columns, path), table.y


def numbers(labels: np.ndarray, path: Path, label: str) -> np.ndarray:
    """Convert labels (N,) str to float64.

    Raises:
        TableError: A label is no finite number.
    """
    return np.array([_number(str(cell), path, line, label) for line, cell in enumerate(labels, start=2)])


def write_classes(path: Path, label: str, classes: np.ndarray, shares: np.ndarray) -> None:
    """Write a CSV file with a line for each row of the target: the label, and the probability of each class.

    Args:
        path: The file, replaced as a whole.
        label: Name of the first column.
        classes: (C,) str.
        shares: (N, C) float64.
    """
    lines = ([classes[row.argmax()], *(f"{share:.4f}" for share in row)] for row in shares)
    _write(path, [label, *(f"p({name})" for name in classes)], lines)


def write_numbers(path: Path, label: str, values: np.ndarray) -> None:
    """Write a CSV file with a line for each row of the target.

    Args:
        path: The file, replaced as a whole.
        label: Name of the column.
        values: (N,) float64.
    """
    _write(path, [label], ([f"{value:.6g}"] for value in values))


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)


def _number(cell: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise TableError(f"{path}, line {line}, column {column}: {cell!r} is no finite number")
    return value
