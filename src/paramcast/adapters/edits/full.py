"""`full`: the package holds the layers themselves, as in the family that CDC-MMPG belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from paramcast.adapters.edits.base import Edit, Shape, Slot, Values, dense


class FullEdit(Edit):
    """Tensors `NAME.weight` and `NAME.bias` replace the layer's own."""

    form = "full"

    def shapes(self) -> dict[str, Shape]:
        """One tensor for each parameter of each slot."""
        return parameter_shapes(self.slots)

    def base_values(self, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """The layers' own parameters."""
        return {
            f"{name}.{kind}": cast(Tensor, getattr(layers[name], kind)).detach()
            for name, slot in self.slots.items()
            for kind in kinds_of(slot)
        }

    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """Run the layer with the package's parameters; its unedited output is not used."""
        return dense(slot, layer, x, values[f"{slot.name}.weight"], values.get(f"{slot.name}.bias"))

    def bias_edit(self, slot: Slot, layer: nn.Module, values: Values) -> Tensor:
        """From the layer's bias to the package's."""
        return values[f"{slot.name}.bias"] - cast(Tensor, layer.bias)


def kinds_of(slot: Slot) -> tuple[str, ...]:
    """Which of 'weight' and 'bias' a slot edits."""
    return ("weight",) * slot.edits_weight + ("bias",) * (slot.bias is not None)


def parameter_shapes(slots: Mapping[str, Slot]) -> dict[str, Shape]:
    """`NAME.weight` and `NAME.bias` of every slot, as far as it edits them."""
    return {f"{name}.{kind}": getattr(slot, kind) for name, slot in slots.items() for kind in kinds_of(slot)}
