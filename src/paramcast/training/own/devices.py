"""The devices of a model of one's own: tensors in, tensors out, and what is told of each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from paramcast.errors import InputError


@dataclass(frozen=True, eq=False)
class OwnDevice:
    """One device's N examples, in the order in which it meets them.

    Attributes:
        id: A letter or digit, then letters, digits and `._:@+-`.
        inputs: What the module is called with: tensors (N, ...).
        labels: (N, ...), what the loss and the score compare the module's outputs with.
        context: (N, F) or (N, T, F) floats: features that describe an example to the cloud, without its
            label. Of T parts (frames, seconds) only the middle one is sent; what the others are like is
            inferred from it.
        group: Whom it belongs to: a group is never torn apart by folds. Empty: it is a group by itself.
        truth: (R,) floats, the true domain if it is known: what an oracle is told.

    Raises:
        InputError: Unlike numbers of examples, or features that are not finite.
    """

    id: str
    inputs: tuple[Tensor, ...]
    labels: Tensor
    context: np.ndarray
    group: str = ""
    truth: np.ndarray | None = None

    def __post_init__(self) -> None:
        counts = {len(self.labels), len(self.context), *map(len, self.inputs)}
        if len(counts) != 1 or not self.inputs:
            raise InputError(
                f"device {self.id}: inputs, labels and context have {sorted(counts)} examples; one of each"
            )
        if self.context.ndim not in (2, 3) or not np.isfinite(self.context).all():
            raise InputError(f"device {self.id}: context must be finite, (N, F) or (N, T, F)")

    def __len__(self) -> int:
        return len(self.labels)


def sent_and_whole(context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of each example is sent, its middle part, and the mean of all parts: both (N, F) float32."""
    parts = context.astype(np.float32).reshape(len(context), -1, context.shape[-1])
    return parts[:, parts.shape[1] // 2], parts.mean(1)


def check_devices(devices: Sequence[OwnDevice], examples: int) -> None:
    """See that devices can be used together.

    Args:
        devices: Of one model.
        examples: The fewest that each must have.

    Raises:
        InputError: There are none, two have one id, one has too few examples, or they are described by
            unlike numbers of features, or some with and some without their truth.
    """
    if not devices:
        raise InputError("no devices were given")
    ids = [device.id for device in devices]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise InputError(f"two devices are called {min(twice)!r}; give each an id of its own")
    if few := [device.id for device in devices if len(device) < examples]:
        raise InputError(f"device {few[0]!r} has too few examples; at least {examples} are needed")
    kinds = {(d.context.shape[-1], None if d.truth is None else d.truth.shape) for d in devices}
    if len(kinds) > 1:
        raise InputError(
            f"devices are described unlike each other (features, truth): {sorted(map(str, kinds))}"
        )


def folds_of(devices: Sequence[OwnDevice], count: int, seed: int) -> list[list[OwnDevice]]:
    """Devices in `count` folds drawn by the seed; a group stays together.

    Raises:
        InputError: There are fewer groups than folds.
    """
    groups = sorted({device.group or device.id for device in devices})
    if not 2 <= count <= len(groups):
        raise InputError(
            f"{len(groups)} groups of devices cannot be put into {count} folds; choose 2 to that"
        )
    drawn = np.array_split(np.random.default_rng(seed).permutation(groups), count)
    return [[device for device in devices if (device.group or device.id) in fold] for fold in drawn]
