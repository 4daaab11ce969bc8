"""Losses and scores: the built-in ones by name, and the defaults for given outputs and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from paramcast.errors import InputError

Loss = Callable[[Any, Any], Tensor]

IGNORED = -100
"""Labels with this value are left out of losses and scores of classes."""


@dataclass(frozen=True)
class Score:
    """A score of outputs against labels.

    Attributes:
        function: (outputs, labels) -> number, for the examples of one device.
        name: Name in reports.
        higher_is_better: False for errors, such as MAE.
    """

    function: Callable[[Any, Any], float]
    name: str = "score"
    higher_is_better: bool = True

    def __call__(self, outputs: Any, labels: Any) -> float:
        """Return the score."""
        return float(self.function(outputs, labels))

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1."""
        return 1.0 if self.higher_is_better else -1.0


def primary(outputs: Any) -> Tensor:
    """Return the tensor to compare with labels: `logits` of a dictionary if present, else the first one."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        found = outputs.get("logits")
        return primary(found if found is not None else next(iter(outputs.values())))
    if isinstance(outputs, tuple | list) and outputs:
        return primary(outputs[0])
    raise InputError(f"the module returns a {type(outputs).__name__}; give loss= and score= that read it")


def with_primary(outputs: Any, new: Tensor) -> Any:
    """Return the outputs with `new` in the place of `primary(outputs)`."""
    if isinstance(outputs, Tensor):
        return new
    if isinstance(outputs, Mapping):
        name = "logits" if outputs.get("logits") is not None else next(iter(outputs))
        return {**outputs, name: with_primary(outputs[name], new)}
    return (with_primary(outputs[0], new), *outputs[1:])


def kind_of(outputs: Any, labels: Any) -> str:
    """Determine the kind of problem: 'classes', 'labels' (several per example may be 1) or 'numbers'.

    Raises:
        InputError: Outputs and labels do not fit each other, or labels are nested.
    """
    if not isinstance(labels, Tensor):
        raise InputError("labels are nested; give loss= and score= that read them")
    made = primary(outputs)
    whole = (
        labels.dtype in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8) and made.dim() > 1
    )
    if whole and labels.shape in (made.shape[:-1], made.shape[:1] + made.shape[2:]):
        return "classes"
    if made.shape == labels.shape or made.shape == (*labels.shape, 1):
        binary = labels.dim() > 1 and bool(((labels == 0) | (labels == 1)).all())
        return "labels" if binary else "numbers"
    raise InputError(
        f"outputs {tuple(made.shape)} do not fit labels {tuple(labels.shape)} of {labels.dtype}; "
        "give loss= and score= that compare them"
    )


def classes_last(made: Tensor, labels: Tensor) -> Tensor:
    """Move the axis of classes to the end: (N, C, ...) with labels (N, ...) becomes (N, ..., C)."""
    return made if made.shape[:-1] == labels.shape else made.movedim(1, -1)


def cross_entropy(outputs: Any, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of classes; labels of -100, or below zero, are left out."""
    made = classes_last(primary(outputs), labels)
    wanted = labels.long().flatten()
    wanted = torch.where(wanted < 0, IGNORED, wanted)
    return F.cross_entropy(made.flatten(0, -2).float(), wanted, ignore_index=IGNORED)


def binary_cross_entropy(outputs: Any, labels: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of several labels."""
    return F.binary_cross_entropy_with_logits(primary(outputs).float(), labels.float())


def squared_error(outputs: Any, labels: Tensor) -> Tensor:
    """Compute the mean squared error."""
    return F.mse_loss(primary(outputs).float().reshape(labels.shape), labels.float())


def smooth_l1(outputs: Any, labels: Tensor) -> Tensor:
    """Compute the mean Huber loss with its bend at 1."""
    return F.smooth_l1_loss(primary(outputs).float().reshape(labels.shape), labels.float())


def _hits(outputs: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
    made = classes_last(primary(outputs), labels)
    known = labels >= 0
    return (made.argmax(-1) == labels)[known], labels[known]


def accuracy(outputs: Any, labels: Tensor) -> float:
    """Compute the percent of labels that have the largest output."""
    hits, _ = _hits(outputs, labels)
    return 100 * float(hits.float().mean()) if len(hits) else float("nan")


def balanced_accuracy(outputs: Any, labels: Tensor) -> float:
    """Compute the mean accuracy, in percent, over the classes that occur in the labels."""
    hits, wanted = _hits(outputs, labels)
    return 100 * float(torch.stack([hits[wanted == c].float().mean() for c in torch.unique(wanted)]).mean())


def label_accuracy(outputs: Any, labels: Tensor) -> float:
    """Compute the percent of binary labels for which the output has the right sign."""
    return 100 * float(((primary(outputs) > 0) == (labels > 0.5)).float().mean())


def mean_absolute_error(outputs: Any, labels: Tensor) -> float:
    """Compute the mean absolute error, in the labels' unit."""
    return float((primary(outputs).float().reshape(labels.shape) - labels.float()).abs().mean())


def root_mean_squared_error(outputs: Any, labels: Tensor) -> float:
    """Compute the root of the mean squared error, in the labels' unit."""
    return float(squared_error(outputs, labels).sqrt())


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "smooth_l1": smooth_l1,
}
SCORES: dict[str, Score] = {
    "accuracy": Score(accuracy, "accuracy"),
    "balanced_accuracy": Score(balanced_accuracy, "balanced_accuracy"),
    "label_accuracy": Score(label_accuracy, "label_accuracy"),
    "mae": Score(mean_absolute_error, "mae", higher_is_better=False),
    "rmse": Score(root_mean_squared_error, "rmse", higher_is_better=False),
}
_DEFAULTS = {
    "classes": ("cross_entropy", "accuracy"),
    "labels": ("binary_cross_entropy", "label_accuracy"),
    "numbers": ("squared_error", "mae"),
}


def chosen_loss(loss: str | Loss | None, outputs: Any, labels: Any) -> Loss:
    """Return the named or given loss, or the default for these outputs and labels.

    Raises:
        InputError: An unknown name, or no default fits.
    """
    if loss is None:
        return LOSSES[_DEFAULTS[kind_of(outputs, labels)][0]]
    return _named(loss, LOSSES, "loss") if isinstance(loss, str) else loss


def chosen_score(score: str | Score | Callable[[Any, Any], float] | None, outputs: Any, labels: Any) -> Score:
    """Return the named or given score, or the default for these outputs and labels.

    Raises:
        InputError: An unknown name, or no default fits.
    """
    if score is None:
        return SCORES[_DEFAULTS[kind_of(outputs, labels)][1]]
    if isinstance(score, str):
        named: Score = _named(score, SCORES, "score")
        return named
    return score if isinstance(score, Score) else Score(score, getattr(score, "__name__", "score"))


def _named(name: str, known: Mapping[str, Any], what: str) -> Any:
    if name not in known:
        raise InputError(f"no {what} is called {name!r}; there are: {', '.join(known)}; or give a function")
    return known[name]
