"""`full`: the package holds the layers themselves, as in the family that CDC-MMPG belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from paramcast.models.edits.base import Edit, Shape, Slot, Values, dense


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
            for kind in ("weight", "bias")
            if kind == "weight" or slot.bias is not None
        }

    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """Run the layer with the package's parameters; its unedited output is not used."""
        return dense(slot, layer, x, values[f"{slot.name}.weight"], values.get(f"{slot.name}.bias"))


def parameter_shapes(slots: Mapping[str, Slot]) -> dict[str, Shape]:
    """`NAME.weight` and, where the layer has one, `NAME.bias` of every slot."""
    shapes: dict[str, Shape] = {}
    for name, slot in slots.items():
        shapes[f"{name}.weight"] = slot.weight
        if slot.bias is not None:
            shapes[f"{name}.bias"] = slot.bias
    return shapes
