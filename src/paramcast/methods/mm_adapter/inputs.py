"""Checks of what callers hand in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.methods.mm_adapter.fewshot import draw_shots
from paramcast.methods.mm_adapter.fitting import Shots


def embeddings(values: Any, what: str, dim: int | None = None) -> Tensor:
    """(N, D) finite numbers, no row all 0 -> (N, D) float32, L2-normalised."""
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise FewShotError(f"{what} must be numbers: {error}") from error
    if array.ndim != 2 or not array.size:
        raise FewShotError(f"{what} must have shape (N, D) with N, D >= 1; got {array.shape}")
    if dim is not None and array.shape[1] != dim:
        raise FewShotError(f"{what} has {array.shape[1]} columns, but {dim} are needed: use one dual encoder")
    if not np.isfinite(array).all():
        raise FewShotError(f"{what} holds NaN or infinity")
    if not np.abs(array).max(1).all():
        raise FewShotError(f"{what} has a row of zeros, which has no direction")
    return F.normalize(torch.from_numpy(np.array(array)), dim=-1)


def labels(y: Any, rows: int, classes: int) -> Tensor:
    """(N,) whole numbers in [0, classes) -> (N,) int64."""
    array = np.asarray(y)
    if array.shape != (rows,):
        raise FewShotError(f"y has shape {array.shape}; give one label for each of {rows} images")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
        raise FewShotError(f"y must hold row numbers of class_texts: whole numbers from 0 to {classes - 1}")
    return torch.from_numpy(array.astype(np.int64))


def shots_of(images: Tensor, y: Tensor, X_val: Any, y_val: Any, classes: int, seed: int) -> Shots:
    """Validation as given; else half of every class is held out, or all is used twice if nothing can be."""
    if (X_val is None) != (y_val is None):
        raise FewShotError("give both X_val and y_val, or neither")
    if X_val is not None:
        val_images = embeddings(X_val, "X_val", images.shape[1])
        return Shots(images, y, val_images, labels(y_val, len(val_images), classes))
    train, held = draw_shots(y.numpy(), len(y), seed)
    if not len(held):
        return Shots(images, y, images, y)
    return Shots(images[train], y[train], images[held], y[held])
