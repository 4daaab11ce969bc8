"""The plainest way to train a base model, for those who have no way of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.training.own.devices import OwnDevice


def fit_supervised(
    module: nn.Module,
    devices: Sequence[OwnDevice],
    *,
    steps: int = 200,
    batch: int = 64,
    rate: float = 2e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> None:
    """Train a module in place by AdamW on batches of all devices' examples; a `fit_base` for `train_own`.

    Args:
        module: Called with a device's inputs.
        devices: What it learns from.
        steps: Optimizer steps.
        batch: Examples a step.
        rate: Learning rate.
        loss: Of outputs and labels.
    """
    inputs = [torch.cat(each) for each in zip(*(device.inputs for device in devices), strict=True)]
    labels = torch.cat([device.labels for device in devices])
    optimizer = torch.optim.AdamW(module.parameters(), rate)
    for _ in range(steps):
        rows = torch.randint(len(labels), (batch,))
        value = loss(module(*(each[rows] for each in inputs)), labels[rows])
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
