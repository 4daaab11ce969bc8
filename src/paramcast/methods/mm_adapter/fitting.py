"""Adam with early stopping: one loop for the adapter and for the trained baselines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast.

    Attributes:
        learning_rate: Of Adam.
        epochs: Passes over the shots at most.
        patience: Epochs without a better validation after which training stops.
        batch_size: Images a step.
    """

    learning_rate: float = 1e-3
    epochs: int = 100
    patience: int = 15
    batch_size: int = 32


@dataclass(frozen=True)
class Shots:
    """Training and validation images: (N, D) float32 and (N,) int64 each."""

    images: Tensor
    labels: Tensor
    val_images: Tensor
    val_labels: Tensor


def fit(
    module: nn.Module, logits: Logits, shots: Shots, settings: FitSettings, seed: int
) -> tuple[float, float]:
    """Train `module` in place and leave it at its best by validation; the start takes part.

    Args:
        module: Whose parameters are trained.
        logits: Images (B, D) -> (B, C), through `module`.
        shots: Labels index the C classes.
        settings: Of the training.
        seed: Of the order of the images.

    Returns:
        The best validation: accuracy in [0, 1], and minus the cross-entropy, which breaks ties.
    """
    optimiser = torch.optim.Adam(module.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    best, waited = (-math.inf, -math.inf), 0
    state: dict[str, Tensor] = {}
    for epoch in range(settings.epochs + 1):
        score = evaluate(module, logits, shots)
        if score > best:
            best, waited = score, 0
            state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        else:
            waited += 1
        if waited > settings.patience or epoch == settings.epochs:
            break
        module.train()
        order = torch.randperm(len(shots.labels), generator=generator)
        for rows in torch.split(order, settings.batch_size):
            optimiser.zero_grad()
            F.cross_entropy(logits(shots.images[rows]), shots.labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    module.load_state_dict(state)
    module.eval()
    return best


def evaluate(module: nn.Module, logits: Logits, shots: Shots) -> tuple[float, float]:
    """Validation accuracy in [0, 1], and minus the cross-entropy."""
    module.eval()
    with torch.no_grad():
        scores = logits(shots.val_images)
        loss = F.cross_entropy(scores, shots.val_labels)
        correct = (scores.argmax(1) == shots.val_labels).float().mean()
    return correct.item(), -loss.item()
