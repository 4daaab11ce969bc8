"""Updates for devices, and the scores of devices under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from paramcast.hypernet import Hypernetwork
from paramcast.training import examples
from paramcast.training.devices import DeviceData
from paramcast.training.model import AdaptableModel, device_of
from paramcast.training.scores import Score
from paramcast.training.start import starting


class Contexts:
    """Cache of the features of devices' examples, computed by the final base."""

    def __init__(self, model: AdaptableModel) -> None:
        self._model = model
        self._kept: dict[str, np.ndarray] = {}

    def keep(self, device: DeviceData) -> None:
        """Compute and cache the features of all examples of a device."""
        if device.id not in self._kept:
            self._kept[device.id] = self._model.context_of(device)

    def of(self, device: DeviceData, rows: slice | np.ndarray) -> np.ndarray:
        """Return the features of some of a device's examples."""
        kept = self._kept.get(device.id)
        return self._model.context_of(device, rows) if kept is None else kept[rows]


def updates(
    model: AdaptableModel,
    devices: Sequence[DeviceData],
    support: int,
    condition: str,
    contexts: Contexts | None = None,
    truths: dict[str, np.ndarray] | None = None,
    *,
    gated: bool = False,
) -> dict[str, Tensor]:
    """Generate update tensors (B, *shape) for B devices from their first `support` examples.

    Args:
        model: A fitted model.
        devices: The B devices.
        support: Number of support examples of each device.
        condition: Condition of the hypernetwork.
        contexts: Features that were computed before.
        truths: True domains by device id, for the oracle.
        gated: Whether the gain predictor may leave a device at the base.
    """
    known = contexts or Contexts(model)
    blank = np.zeros((1, len(model.fitted.uplink.mean)), np.float32)
    sets = [known.of(d, slice(0, support)) if condition == "support" else blank for d in devices]
    told = None if truths is None else [truths[device.id] for device in devices]
    hypernet: Hypernetwork = model.fitted.hypernets[condition].eval()
    inputs = model.inputs(sets, told)
    with torch.no_grad():
        made = hypernet.gated(inputs) if gated else hypernet.values(hypernet.encode(inputs), inputs)
    if condition != "support":
        return made
    at = device_of(model.net)
    seen = [examples.moved(examples.take(device.inputs, slice(0, support)), at) for device in devices]
    return made | starting(model.fitted.start, model.net, seen)


def scores_of(
    model: AdaptableModel,
    devices: Sequence[DeviceData],
    made: dict[str, Tensor] | None,
    skipped: int,
    score: Score,
    condition: str = "support",
) -> np.ndarray:
    """Score each device on the examples after the first `skipped`: (B,) float64; `made=None` is the base."""
    adapted, found = model.fitted.adapted[condition], []
    at = device_of(model.net)
    model.net.eval()
    with torch.no_grad():
        for place, device in enumerate(devices):
            values = None if made is None else {name: value[place] for name, value in made.items()}
            parts = [
                adapted(examples.moved(examples.take(device.inputs, slice(start, start + 256)), at), values)
                for start in range(skipped, len(device), 256)
            ]
            wanted = examples.moved(examples.take(device.labels, slice(skipped, None)), at)
            found.append(score(examples.joined(parts) if len(parts) > 1 else parts[0], wanted))
    return np.array(found, np.float64)


def training_sizes(support: int) -> list[int]:
    """Return the sizes of support sets in training, because devices may have fewer or more examples."""
    return sorted({1, max(1, support // 4), max(1, support // 2), support, 2 * support})


def validation_sizes(support: int) -> list[int]:
    """Return the sizes of support sets for selecting the training step and calibrating the gain predictor."""
    return sorted({max(1, support // 8), support})
