"""`lowrank`: base + A·B of rank r for each layer (LoRA, Hu et al., arXiv 2106.09685), and a bias edit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from paramcast.adapters.edits.base import (
    Edit,
    Shape,
    Slot,
    Values,
    add_matmul,
    add_vector,
    convolve,
    matmul,
    scale_vector,
)


class LowRankEdit(Edit):
    """Tensors `NAME.a` (O, r), `NAME.b` (r, I) and `NAME.bias` (O,); a LayerNorm gets vectors instead.

    The base product stays a constant of the device's graph (prepacked); the edit costs r·(I + O) MACs a row.
    """

    form = "lowrank"

    def __init__(
        self, layers: Mapping[str, nn.Module], bias_only: Collection[str] = (), rank: int = 4
    ) -> None:
        super().__init__(layers, bias_only)
        for name, layer in layers.items():
            reject_grouped(name, layer, self.form)
        self.rank = rank

    def shapes(self) -> dict[str, Shape]:
        """Two factors for each matrix, and a vector for each bias."""
        shapes: dict[str, Shape] = {}
        for name, slot in self.slots.items():
            if not slot.edits_weight:
                pass
            elif slot.kind == "layernorm":
                shapes[f"{name}.scale"] = slot.weight
            else:
                shapes[f"{name}.a"] = (slot.fan_out, self.rank)
                shapes[f"{name}.b"] = (self.rank, slot.fan_in)
            if slot.bias is not None:
                shapes[f"{name}.bias"] = slot.bias
        return shapes

    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """Add the low-rank product and the bias edit to the layer's output."""
        if slot.kind == "layernorm":
            normed = nn.functional.layer_norm(x, slot.weight, eps=layer.eps)  # type: ignore[arg-type]
            y = y + scale_vector(normed, values[f"{slot.name}.scale"], len(slot.weight))
        else:
            a, b = values[f"{slot.name}.a"], values[f"{slot.name}.b"]
            if slot.kind == "conv":
                inner = convolve(layer, x, b.reshape(*b.shape[:-1], *slot.weight[1:]))
                y = y + matmul(inner.movedim(1, -1), a).movedim(-1, 1)
            else:
                y = add_matmul(y, matmul(x, b), a)
        return y if slot.bias is None else add_vector(y, self.bias_edit(slot, layer, values), slot)

    def bias_edit(self, slot: Slot, layer: nn.Module, values: Values) -> Tensor:
        """The package's."""
        return values[f"{slot.name}.bias"]


def reject_grouped(name: str, layer: nn.Module, form: str) -> None:
    """Factors of a grouped convolution would mix its groups.

    Raises:
        TypeError: The layer is a convolution with groups > 1.
    """
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups != 1:
        raise TypeError(f"{name} is a grouped convolution: form {form!r} cannot edit it; take 'residual'")
