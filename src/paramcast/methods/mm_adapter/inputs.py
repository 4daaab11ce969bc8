"""Checks of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor
from torch.nn import functional as F

from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.methods.mm_adapter.fitting import Shots


def embeddings(values: Any, what: str, dim: int | None = None) -> Tensor:
    """Check and L2-normalize (N, D) finite numbers -> (N, D) float32; a row of zeros stays as it is."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FewShotError(f"{what} must be numbers: {error}") from error
    if array.ndim != 2 or not array.size:
        raise FewShotError(f"{what} must have shape (N, D) with N, D >= 1; got {array.shape}")
    if dim is not None and array.shape[1] != dim:
        raise FewShotError(f"{what} has {array.shape[1]} columns, but {dim} are needed: use one dual encoder")
    if not np.isfinite(array).all():
        raise FewShotError(f"{what} holds NaN or infinity")
    largest = np.abs(array).max(1, keepdims=True)  # without it, squares of large numbers overflow
    scaled = np.divide(array, largest, out=np.zeros_like(array), where=largest > 0)
    return F.normalize(torch.from_numpy(scaled.astype(np.float32)), dim=-1)


def text_embeddings(values: Any, dim: int) -> Tensor:
    """Check and L2-normalize (C, D), C >= 2, without a row of zeros -> (C, D) float32."""
    texts = embeddings(values, "class_texts", dim)
    if len(texts) < 2:
        raise FewShotError("class_texts has one row; at least two classes are needed")
    if not texts.any(1).all():
        raise FewShotError(
            f"class_texts has a row of zeros: class {int((~texts.any(1)).int().argmax())} has no name"
        )
    return texts


def row_labels(y: Any, rows: int, classes: int) -> Tensor:
    """Check (N,) whole numbers in [0, classes) -> (N,) int64."""
    array = column(y, rows, "y")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
        raise FewShotError(f"y must hold row numbers of class_texts: whole numbers from 0 to {classes - 1}")
    return torch.from_numpy(array.astype(np.int64))


def class_labels(y: Any, rows: int) -> tuple[np.ndarray, Tensor]:
    """Convert (N,) labels of any kind to the sorted classes, and (N,) int64 rows of the classes."""
    array = column(y, rows, "y")
    try:
        assert_all_finite(array, input_name="y")
        check_classification_targets(array)
    except ValueError as error:
        raise FewShotError(str(error)) from error
    classes, places = np.unique(array, return_inverse=True)
    return classes, torch.from_numpy(places.astype(np.int64))


def shots_of(images: Tensor, rows: Tensor, validation: tuple[Tensor, Tensor] | None, seed: int) -> Shots:
    """Use the given validation; else hold out half of every class, or use all images twice if none can be."""
    if validation is not None:
        return Shots(images, rows, *validation)
    train, held = draw_shots(rows.numpy(), len(rows), seed)
    if not len(held):
        return Shots(images, rows, images, rows)
    return Shots(images[train], rows[train], images[held], rows[held])


def column(y: Any, rows: int, what: str) -> np.ndarray:
    """Check (N,) labels of any kind, one for each image."""
    if y is None:
        raise FewShotError(f"MultiModalAdapter requires {what} to be passed, but the target {what} is None")
    try:
        array: np.ndarray = column_or_1d(y, warn=True)
    except ValueError as error:
        raise FewShotError(f"{what} must be a column of labels: {error}") from error
    if len(array) != rows:
        raise FewShotError(f"{what} has {len(array)} labels for {rows} images; give one for each")
    return array


def draw_shots(y: np.ndarray, shots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw training and validation images, disjoint, at most `shots` a class each.

    A class with fewer than 2 * shots images is halved, training first; a single image has no validation.

    Args:
        y: (N,) int, classes.
        shots: At least 1.
        seed: Seed of the draw. More shots with the same seed draw a superset for training.

    Returns:
        Row numbers of training and of validation images.
    """
    if shots < 1:
        raise FewShotError(f"shots must be at least 1; got {shots}")
    train, validation = [], []
    for c in np.unique(y):
        rows = np.flatnonzero(y == c)
        rows = np.random.default_rng([seed, int(c)]).permutation(rows)
        half = (len(rows) + 1) // 2
        train.append(rows[:half][:shots])
        validation.append(rows[half:][:shots])
    return np.concatenate(train), np.concatenate(validation)
