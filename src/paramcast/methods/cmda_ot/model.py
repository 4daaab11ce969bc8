"""Classifier that server and clients exchange: one hidden layer, its weights a mapping of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.cmda_ot.messages import Arrays


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the classifier's training.

    Attributes:
        hidden: Units of the hidden layer.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        dropout: Share of hidden units dropped in training.
        batch_size: Samples in a step.
    """

    hidden: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.5
    batch_size: int = 64


def initial(features: int, classes: int, hidden: int, seed: int) -> Arrays:
    """Make initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _net(features, classes, hidden, 0.0)
    return {name: value.numpy() for name, value in net.state_dict().items()}


def train(
    weights: Arrays, X: np.ndarray, labels: np.ndarray, steps: int, settings: TrainSettings, seed: int
) -> Arrays:
    """Train from `weights`, with cross-entropy.

    Args:
        weights: Not changed.
        X: (N, D) float64.
        labels: (N,) int.
        steps: Steps of the optimizer, each with a new random draw of samples.
        settings: Settings of the training.
        seed: Seed of order and dropout.

    Returns:
        New weights.
    """
    samples, targets = torch.from_numpy(X).float(), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _loaded(weights, settings.dropout).train()
        optimizer = torch.optim.AdamW(
            net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        for _ in range(steps):
            rows = torch.randperm(len(samples))[: settings.batch_size]
            optimizer.zero_grad()
            F.cross_entropy(net(samples[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {name: value.numpy() for name, value in net.state_dict().items()}


def probabilities(weights: Arrays, X: np.ndarray) -> np.ndarray:
    """Compute class probabilities: (N, D) float64 -> (N, C) float64, rows summing to 1."""
    with torch.no_grad():
        logits: Tensor = _loaded(weights, 0.0).eval()(torch.from_numpy(X).float())
        shares: np.ndarray = logits.double().softmax(-1).numpy()
    return shares


def accuracy(weights: Arrays, X: np.ndarray, labels: np.ndarray) -> float:
    """Compute the share in [0, 1] of samples whose label is the most probable class."""
    return float((probabilities(weights, X).argmax(1) == labels).mean())


def average(weights: list[Arrays], shares: np.ndarray) -> Arrays:
    """Compute the weighted mean of weights, with shares (n,) that sum to 1."""
    return {
        name: np.tensordot(shares, np.stack([each[name] for each in weights]), 1).astype(np.float32)
        for name in weights[0]
    }


def _net(features: int, classes: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
    )


def _loaded(weights: Arrays, dropout: float) -> nn.Sequential:
    hidden, features = weights["0.weight"].shape
    net = _net(features, len(weights["3.bias"]), hidden, dropout)
    net.load_state_dict({name: torch.from_numpy(value).clone() for name, value in weights.items()})
    return net
