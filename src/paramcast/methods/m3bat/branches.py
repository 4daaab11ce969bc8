"""Columns (or channels) of each branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paramcast.methods.m3bat.errors import OptionError

REST = "rest"


def by_modality(modalities: Mapping[str, Sequence[Any]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Make one branch for each modality.

    Args:
        modalities: Name -> columns, each an index or a column's name. Columns in no modality form one more
            branch, `rest`.
        names: (F,) names of the columns of X (or of a window's channels).

    Returns:
        Name -> sorted column indices (Fb,), Fb >= 1; together they hold every column once.

    Raises:
        OptionError: An empty modality, an unknown column, or a column in two modalities.
    """
    owner: dict[int, str] = {}
    for modality, columns in modalities.items():
        if len(columns) == 0:
            raise OptionError(f"modality {modality!r} has no columns")
        for column in columns:
            index = _index(column, names, modality)
            if index in owner:
                raise OptionError(
                    f"column {names[index]!r} is in modalities {owner[index]!r} and {modality!r}; keep one"
                )
            owner[index] = modality
    branches = {name: np.array(sorted(i for i, of in owner.items() if of == name)) for name in modalities}
    rest = np.array([i for i in range(len(names)) if i not in owner], dtype=int)
    return branches | ({REST: rest} if len(rest) else {})


def by_shift(d: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Make branches of equal size (to one column), from the least to the most shifted features.

    Args:
        d: (F,) Cohen's d.
        count: Number of branches >= 1; it is reduced to the number of columns if that is lower.
    """
    groups = np.array_split(np.argsort(np.abs(d), kind="stable"), min(count, len(d)))
    return {f"shift {number}": np.sort(group) for number, group in enumerate(groups, start=1)}


def _index(column: Any, names: Sequence[str], modality: str) -> int:
    if isinstance(column, str):
        if column not in names:
            raise OptionError(f"modality {modality!r} names column {column!r}, which X does not have")
        return list(names).index(column)
    if not 0 <= int(column) < len(names):
        raise OptionError(
            f"modality {modality!r} names column {column}, but X has columns 0 to {len(names) - 1}"
        )
    return int(column)
