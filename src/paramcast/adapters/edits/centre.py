"""`centre`: a device's mean feature, taken away before the first layers; part of a package of any form.

What a device sees differs from the training set first of all in its mean. Subtracting it is the simplest of
adaptations, and needs no learning but of how far to trust the estimate. The device's graph has the effect of
each direction on a layer's output as constants; a package brings one coefficient a direction.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paramcast.adapters.edits.base import Shape, Slot, Values, add_vector
from paramcast.adapters.edits.codes import mixed


class Centre(nn.Module):
    """One tensor `centre` (k,) for all centred layers.

    Args:
        slots: The centred layers; all have a bias.
        count: Number k of directions, of all layers together.
    """

    def __init__(self, slots: Mapping[str, Slot], count: int) -> None:
        super().__init__()
        self.count = count
        self.basis = nn.ParameterDict(
            {_key(name): torch.zeros(count, slot.fan_out) for name, slot in slots.items()}
        )

    def shapes(self) -> dict[str, Shape]:
        """The coefficients alone."""
        return {"centre": (self.count,)}

    def set_basis(self, name: str, effects: Tensor) -> None:
        """Say what each direction adds to the output of layer `name`: effects (k, fan_out)."""
        with torch.no_grad():
            self.basis[_key(name)].copy_(effects)

    def forward(self, slot: Slot, y: Tensor, values: Values) -> Tensor:
        """The output `y` of a layer, moved if the layer is one of the centred."""
        if (key := _key(slot.name)) not in self.basis:
            return y
        return add_vector(y, mixed(values["centre"], self.basis[key]), slot)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name may not hold a dot
