"""`codes`: base + sum of k codes times a learned basis that every device has; only the k codes travel."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from paramcast.adapters.edits.base import (
    Edit,
    Shape,
    Slot,
    Values,
    add_matmul,
    add_vector,
    convolve,
    scale_vector,
)
from paramcast.adapters.edits.lowrank import reject_grouped


class CodesEdit(Edit):
    """One tensor `codes` (k,) for all slots; basis element j of a layer is the rank-1 matrix u_j v_j^T.

    So W = W0 + U diag(c) V: the basis lies in the device's graph as constants, and a package is k numbers.
    """

    form = "codes"

    def __init__(
        self, layers: Mapping[str, nn.Module], bias_only: Collection[str] = (), count: int = 64
    ) -> None:
        super().__init__(layers, bias_only)
        self.count = count
        self.basis = nn.ParameterDict()
        for name, slot in self.slots.items():
            reject_grouped(name, layers[name], self.form)
            key = name.replace(".", "/")
            if not slot.edits_weight:
                pass
            elif slot.kind == "layernorm":
                self.basis[f"{key}:scale"] = nn.Parameter(torch.randn(count, *slot.weight) * count**-0.5)
            else:
                self.basis[f"{key}:u"] = nn.Parameter(torch.randn(count, slot.fan_out) * slot.fan_out**-0.5)
                self.basis[f"{key}:v"] = nn.Parameter(torch.randn(count, slot.fan_in) * slot.fan_in**-0.5)
            if slot.bias is not None:
                self.basis[f"{key}:bias"] = nn.Parameter(torch.randn(count, *slot.bias) * count**-0.5)

    def shapes(self) -> dict[str, Shape]:
        """The codes alone."""
        return {"codes": (self.count,)}

    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """Add the coded sum of basis elements to the layer's output."""
        codes, key = values["codes"], slot.name.replace(".", "/")
        if slot.kind == "layernorm":
            normed = nn.functional.layer_norm(x, slot.weight, eps=layer.eps)  # type: ignore[arg-type]
            scale = mixed(codes, self.basis[f"{key}:scale"])
            y = y + scale_vector(normed, scale, len(slot.weight))
        else:
            u, v = self.basis[f"{key}:u"], self.basis[f"{key}:v"]
            if slot.kind == "conv":
                inner = convolve(layer, x, v.reshape(-1, *slot.weight[1:])).movedim(1, -1)
                y = y + (scale_vector(inner, codes) @ u).movedim(-1, 1)
            else:
                y = add_matmul(y, scale_vector(x @ v.T, codes), u.T)
        return y if slot.bias is None else add_vector(y, self.bias_edit(slot, layer, values), slot)

    def bias_edit(self, slot: Slot, layer: nn.Module, values: Values) -> Tensor:
        """The coded sum of the basis' biases."""
        return mixed(values["codes"], self.basis[f"{slot.name.replace('.', '/')}:bias"])


def mixed(codes: Tensor, basis: Tensor) -> Tensor:
    """The coded sum (B, *v), or (*v), of basis (k, *v) with codes (B, k), or (k,)."""
    # Not by tensordot, which is an Einsum between two Reshapes in a device's graph.
    total = codes @ basis.flatten(1)
    return total if basis.dim() == 2 else total.reshape(*codes.shape[:-1], *basis.shape[1:])
