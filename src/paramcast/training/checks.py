"""Checks before a module is trained: that it can be called, that its score points the right way."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paramcast.errors import InputError
from paramcast.training import examples
from paramcast.training.devices import DeviceData
from paramcast.training.generating import base_scores
from paramcast.training.model import AdaptableModel
from paramcast.training.scores import Score, primary


class SeenDevicesWarning(UserWarning):
    """The base module scores better on the training devices than on validation devices: it has seen them."""


def first_outputs(model: AdaptableModel, device: DeviceData) -> tuple[Any, Any]:
    """Return outputs and labels of a few examples: what loss and score are chosen by."""
    at = examples.device_of(model.net)
    model.net.eval()
    with torch.no_grad():
        try:
            outputs = examples.call(model.net, examples.moved(examples.take(device.inputs, slice(0, 4)), at))
        except (TypeError, RuntimeError, ValueError) as error:
            raise InputError(
                f"the module cannot be called with the inputs of device {device.id!r}: {error}"
            ) from error
    return outputs, examples.moved(examples.take(device.labels, slice(0, 4)), at)


def check_score(model: AdaptableModel, devices: Sequence[DeviceData], score: Score) -> None:
    """Find a score whose direction is wrong: outputs that belong to other examples must not score better.

    Raises:
        InputError: They do, clearly.
    """
    at = examples.device_of(model.net)
    true, mixed = [], []
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for device in devices:
            inputs = examples.moved(examples.take(device.inputs, slice(0, 256)), at)
            labels = examples.moved(examples.take(device.labels, slice(0, 256)), at)
            outputs = examples.call(model.net, inputs)
            if not isinstance(outputs, Tensor) and not isinstance(primary(outputs), Tensor):
                return
            try:
                other = examples.take(outputs, rng.permutation(examples.count(inputs)))
            except (IndexError, RuntimeError, TypeError):  # outputs without an axis of examples
                return
            true.append(score(outputs, labels))
            mixed.append(score(other, labels))
    gaps = score.sign * (np.array(true) - np.array(mixed))
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) > 2 and gaps.mean() < 0 and gaps.mean() + 3 * gaps.std(ddof=1) / np.sqrt(len(gaps)) < 0:
        raise InputError(
            f"score {score.name!r} is better for outputs of other examples: it seems that lower is better; "
            "give score=pc.Score(function, name, higher_is_better=False)"
        )


def warn_if_seen(
    model: AdaptableModel, train: Sequence[DeviceData], validation: Sequence[DeviceData], score: Score
) -> None:
    """Compare the base's scores on both sets; two standard errors are more than chance."""
    known, new = (score.sign * base_scores(model, each, score) for each in (train, validation))
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in (known, new) if len(each) > 1))
    if known.mean() - new.mean() > 2 * error > 0:
        warnings.warn(
            f"the base scores {score.sign * known.mean():.1f} on training devices and "
            f"{score.sign * new.mean():.1f} on validation devices: it seems to have been trained on "
            "the former, and a hypernetwork learns the wrong thing there; let fit(..., base=True) train it, "
            "or give devices that it has not seen",
            SeenDevicesWarning,
            stacklevel=4,
        )
