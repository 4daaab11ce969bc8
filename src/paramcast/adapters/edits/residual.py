"""`residual`: the package holds a bounded edit of every weight, added to the base."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from paramcast.adapters.edits.base import Edit, Shape, Slot, Values, dense
from paramcast.adapters.edits.full import parameter_shapes


class ResidualEdit(Edit):
    """Tensors `NAME.weight` and `NAME.bias` are added to the layer's own; zeros are the base model."""

    form = "residual"

    def shapes(self) -> dict[str, Shape]:
        """One tensor for each parameter of each slot."""
        return parameter_shapes(self.slots)

    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """Run the layer with base + edit."""
        weight = cast(Tensor, layer.weight) + values[f"{slot.name}.weight"]
        edit = values.get(f"{slot.name}.bias")
        bias = None if edit is None else cast(Tensor, layer.bias) + edit
        return dense(slot, layer, x, weight, bias)

    def bias_edit(self, slot: Slot, layer: nn.Module, values: Values) -> Tensor:
        """The package's."""
        return values[f"{slot.name}.bias"]
