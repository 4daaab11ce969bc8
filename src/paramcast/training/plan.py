"""What a training run is made of, as its stages share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paramcast.training.bases import Augment, State
from paramcast.training.devices import DeviceData
from paramcast.training.model import AdaptableModel
from paramcast.training.scores import Loss, Score


@dataclass(frozen=True)
class Plan:
    """What every stage of one training run needs.

    Attributes:
        model: Trained in place.
        train, validation: Devices.
        loss, score: Of outputs and labels.
        augment: Makes a variant of a device for one step, or None.
        lessons: States of the base, each with the devices that it has not seen.
        final: The state of the base that is kept.
        truths: True domain by device id, or None.
        support: Examples that devices adapt with.
        steps, rate, seed: Of each hypernetwork.
        precision: A torch dtype for autocast, or None.
    """

    model: AdaptableModel
    train: Sequence[DeviceData]
    validation: Sequence[DeviceData]
    loss: Loss
    score: Score
    augment: Augment | None
    lessons: Sequence[tuple[State, Sequence[DeviceData]]]
    final: State
    truths: dict[str, np.ndarray] | None
    support: int
    steps: int
    rate: float
    seed: int
    precision: torch.dtype | None


def training_sizes(support: int) -> list[int]:
    """Return the sizes of support sets that training draws: a device may have fewer examples, or more."""
    return sorted({1, max(1, support // 4), max(1, support // 2), support, 2 * support})


def validation_sizes(support: int) -> list[int]:
    """Return the sizes of support sets that select the training step and calibrate the gain predictor."""
    return sorted({max(1, support // 8), support})
