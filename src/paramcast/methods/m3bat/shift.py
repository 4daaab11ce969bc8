"""Shift of each feature between source and target: Cohen's d, as a table and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LIMIT = 10.0
"""Bound of |d|. Beyond it the two distributions do not overlap. A feature that is constant on both sides with
different values, where d is infinite, gets this value too.
"""


def cohens_d(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute the standardized difference of means, positive where the target's mean is higher.

        d = (mean_t - mean_s) / s,   s^2 = ((n_s - 1) s_s^2 + (n_t - 1) s_t^2) / (n_s + n_t - 2)

    (Cohen, 1988). A feature that is constant on both sides has d = 0 if the two values are equal.

    Args:
        source: (Ns, F) finite.
        target: (Nt, F) finite.

    Returns:
        (F,) float64 in [-LIMIT, LIMIT].
    """
    freedom = max(1, len(source) + len(target) - 2)
    squares = [((side - side.mean(0)) ** 2).sum(0) for side in (source, target)]
    deviation = np.sqrt((squares[0] + squares[1]) / freedom)
    difference = target.mean(0) - source.mean(0)
    # The mean of a constant has a rounding error, which must not count as a shift of a constant feature.
    rounding = 1e-12 * np.maximum(np.abs(source).max(0), np.abs(target).max(0))
    difference = np.where(np.abs(difference) <= rounding, 0.0, difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(difference == 0, 0.0, difference / deviation)
    clipped: np.ndarray = np.clip(d, -LIMIT, LIMIT)
    return clipped


@dataclass(frozen=True)
class ShiftTable:
    """Cohen's d of every feature.

    Attributes:
        features: (F,) names.
        branches: (F,) name of each feature's branch.
        d: (F,) in [-LIMIT, LIMIT].
    """

    features: tuple[str, ...]
    branches: tuple[str, ...]
    d: np.ndarray

    def by_branch(self) -> dict[str, float]:
        """Compute the mean |d| of every branch, in order of appearance."""
        names = list(dict.fromkeys(self.branches))
        return {name: float(np.abs(self.d[np.array(self.branches) == name]).mean()) for name in names}

    def text(self, most: int | None = None) -> str:
        """Format the table, the most shifted feature first, cut to `most` lines."""
        order = np.argsort(-np.abs(self.d), kind="stable")[:most]
        width = max([len("feature"), *(len(self.features[i]) for i in order)])
        wide = max([len("branch"), *(len(self.branches[i]) for i in order)])
        lines = [f"{'feature':{width}}  {'branch':{wide}}  {'d':>6}"]
        lines += [f"{self.features[i]:{width}}  {self.branches[i]:{wide}}  {self.d[i]:6.2f}" for i in order]
        return "\n".join(lines)

    def plot(self, path: Path | str, most: int = 40) -> None:
        """Draw the `most` shifted features as bars, colored by branch, into an image (.png, .svg, .pdf)."""
        from matplotlib.figure import Figure

        order = np.argsort(-np.abs(self.d), kind="stable")[:most][::-1]
        figure = Figure(figsize=(6, 1.2 + 0.2 * len(order)), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(dict.fromkeys(self.branches)):
            mine = [place for place, i in enumerate(order) if self.branches[i] == name]
            axes.barh(mine, self.d[order[mine]], color=f"C{number}", label=name)
        axes.set_yticks(range(len(order)), [self.features[i] for i in order], fontsize=7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(xlabel="Cohen's d, target against source", ylabel="feature")
        axes.legend(title="branch")
        figure.savefig(path)


def summarize_windows(windows: np.ndarray) -> np.ndarray:
    """Compute each channel's mean, then its standard deviation, over time: (N, T, C) windows -> (N, 2C)."""
    return np.concatenate([windows.mean(1), windows.std(1)], axis=1)


def shift_table(
    source: np.ndarray, target: np.ndarray, branches: dict[str, np.ndarray], names: Sequence[str]
) -> ShiftTable:
    """Make the table of a pair of domains.

    Args:
        source: (Ns, F) or windows (Ns, T, C), finite. Of a window, each channel's mean and standard deviation
            count.
        target: (Nt, F) or (Nt, T, C).
        branches: Name -> its columns (or channels). Every column is in exactly one branch.
        names: (F,) or (C,) names of the columns (or channels).
    """
    branch_of = {int(column): name for name, columns in branches.items() for column in columns}
    owners = [branch_of[column] for column in range(len(names))]
    features = list(names)
    if source.ndim == 3:
        source, target = summarize_windows(source), summarize_windows(target)
        features = [f"{name} {what}" for what in ("mean", "std") for name in names]
        owners = owners * 2
    return ShiftTable(tuple(features), tuple(owners), cohens_d(source, target))
