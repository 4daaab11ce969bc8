"""Adam with early stopping, one loop for the adapter and for the trained baselines; the scale of cosines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F

Logits = Callable[[Tensor], Tensor]

EVERY = 5
"""Number of steps from one validation to the next."""

SCALES = (math.log(10), math.log(100))
"""Bounds of a fitted scale; the upper bound is the scale of CLIP."""


class Validation(NamedTuple):
    """Score of predictions on validation images: the greater tuple is the better one.

    Attributes:
        accuracy: In [0, 1].
        likelihood: Minus the cross-entropy in nats, which breaks ties.
    """

    accuracy: float
    likelihood: float


@dataclass(frozen=True)
class FitSettings:
    """Length and rate of a training.

    Attributes:
        learning_rate: Learning rate of Adam.
        steps: Largest number of optimizer steps.
        patience: Number of steps without a better validation after which training stops. Passes over the
            shots are not used as the unit: a pass over few shots is a single step, and an adapter changes
            little in the first fifty steps.
        batch_size: Images in a step.
    """

    learning_rate: float = 1e-3
    steps: int = 300
    patience: int = 100
    batch_size: int = 64


@dataclass(frozen=True)
class Shots:
    """Training and validation images: (N, D) float32, L2-normalized, and (N,) int64 each."""

    images: Tensor
    labels: Tensor
    val_images: Tensor
    val_labels: Tensor


def fit(module: nn.Module, logits: Logits, shots: Shots, settings: FitSettings, seed: int) -> Validation:
    """Train `module` in place and leave it at its best validation, which may be its state at the start.

    Args:
        module: Module with the trained parameters.
        logits: Images (B, D) -> (B, C), through `module`.
        shots: Labels index the C classes.
        settings: Settings of the training.
        seed: Seed of the order of the images.
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.learning_rate, fused=True)
    best, found = Validation(-math.inf, -math.inf), 0
    state: dict[str, Tensor] = {}
    rows = _endless(len(shots.labels), settings.batch_size, torch.Generator().manual_seed(seed))
    for step in range(settings.steps + 1):
        if step % EVERY == 0 or step == settings.steps:
            score = validate(logits, shots)
            if score > best:
                best, found = score, step
                state = {name: value.detach().clone() for name, value in module.state_dict().items()}
            if step - found >= settings.patience or step == settings.steps:
                break
        some = next(rows)
        optimizer.zero_grad()
        F.cross_entropy(logits(shots.images[some]), shots.labels[some]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    module.load_state_dict(state)
    return best


def _endless(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield rows of [0, count), at most `size` at a time: all rows once before any row again."""
    while True:
        yield from torch.split(torch.randperm(count, generator=generator), size)


def validate(logits: Logits, shots: Shots) -> Validation:
    """Score `logits` on the validation images."""
    with torch.no_grad():
        scores = logits(shots.val_images)
        loss = F.cross_entropy(scores, shots.val_labels)
        correct = (scores.argmax(1) == shots.val_labels).float().mean()
    return Validation(correct.item(), -loss.item())


def fitted_scale(cosines: Tensor, labels: Tensor) -> float:
    """Fit the logarithm of the scale with which cosines explain labels best, within `SCALES`.

    A poor encoder would get a scale near 1, with which no adapter learns: hence the bounds.

    Args:
        cosines: (N, C), unadapted.
        labels: (N,) int64.
    """

    def loss(scale: float) -> float:
        return F.cross_entropy(math.exp(scale) * cosines, labels).item()

    return float(minimize_scalar(loss, bounds=SCALES, method="bounded").x)
