"""Source and target rows in skada's convention: positive domain labels are source, negative are target."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from paramcast.methods.m3bat.errors import DomainError, LabelsError

Task = Literal["classification", "regression"]
MASKED_CLASS = -1


def source_rows(sample_domain: Any, rows: int) -> np.ndarray:
    """Find the source rows.

    Args:
        sample_domain: (N,) int, or None: then every row is source, so that the estimator also runs in
            scikit-learn tools without domains.
        rows: N, the number of rows of X.

    Returns:
        (N,) bool.

    Raises:
        DomainError: Wrong length, not whole numbers, zeros, or rows of one side only.
    """
    if sample_domain is None:
        return np.ones(rows, dtype=bool)
    domains = np.asarray(sample_domain)
    if domains.shape != (rows,):
        raise DomainError(
            f"sample_domain has shape {domains.shape}; give one domain label for each of {rows} rows"
        )
    if (
        domains.dtype.kind not in "iuf"
        or not np.isfinite(domains).all()
        or (domains != np.floor(domains)).any()
    ):
        raise DomainError("sample_domain must hold whole numbers: positive for source, negative for target")
    if (domains == 0).any():
        raise DomainError("sample_domain holds 0, which is neither source (positive) nor target (negative)")
    source: np.ndarray = domains > 0
    if source.all():
        raise DomainError(
            "there are no target rows: give unlabeled target rows a negative sample_domain, "
            "or leave sample_domain out to train on the source alone"
        )
    if not source.any():
        raise DomainError("there are no source rows: give labeled rows a positive sample_domain")
    return source


def source_labels(y: Any, source: np.ndarray, task: Task, masked: bool) -> np.ndarray:
    """Return the labels of the source rows. The other labels are dropped before any label is read.

    Args:
        y: (N,) or (N, 1) labels; the values at target rows are never read.
        source: (N,) bool.
        task: Says which labels are usable.
        masked: Whether there are target rows. If so, a mask (-1, NaN) at a source row is a mistake.

    Returns:
        (Ns,) labels; float64 for regression.

    Raises:
        LabelsError: Wrong length, masked or non-finite source labels.
    """
    if y is None:
        raise LabelsError("the estimator requires y to be passed, but the target y is None")
    labels = _as_array(y)
    if labels.ndim == 0:
        raise LabelsError("y must be a sequence of labels, one for each row of X")
    if len(labels) != len(source):
        raise LabelsError(
            f"y has {len(labels)} labels for {len(source)} rows of X: inconsistent numbers of samples"
        )
    kept = labels[source]
    kept = column_or_1d(np.array(kept.tolist()) if kept.dtype == object else kept, warn=True)
    return _numbers(kept) if task == "regression" else _classes(kept, masked)


def mask_targets(y: np.ndarray, sample_domain: np.ndarray) -> np.ndarray:
    """Copy y (N,) with the labels of the target rows masked: -1, or NaN where y is floating-point."""
    hidden = y.copy()
    hidden[np.asarray(sample_domain) < 0] = np.nan if y.dtype.kind == "f" else MASKED_CLASS
    return hidden


def _as_array(y: Any) -> np.ndarray:
    """Convert y to an array; the elements of a list are copied without being read."""
    if hasattr(y, "__array__") or not hasattr(y, "__len__"):
        return np.asarray(y)
    return np.fromiter(y, dtype=object, count=len(y))


def _numbers(kept: np.ndarray) -> np.ndarray:
    try:
        numbers = kept.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise LabelsError("the labels of the source rows must be numbers for a regression") from error
    if not np.isfinite(numbers).all():
        raise LabelsError("Input y contains NaN or infinity at source rows: give them a label or drop them")
    return numbers


def _classes(kept: np.ndarray, masked: bool) -> np.ndarray:
    if kept.dtype.kind == "f" and not np.isfinite(kept).all():
        raise LabelsError("Input y contains NaN or infinity at source rows: give them a label or drop them")
    try:
        check_classification_targets(kept)
    except ValueError as error:
        raise LabelsError(str(error)) from error
    if masked and kept.dtype.kind in "iuf" and (kept == MASKED_CLASS).any():
        raise LabelsError(
            "source rows carry the label -1, which marks hidden target labels: use another number"
        )
    if len(np.unique(kept)) < 2:
        raise LabelsError("the source rows hold one class only: a classifier needs two or more")
    return kept
