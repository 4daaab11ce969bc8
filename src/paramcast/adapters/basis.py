"""`basis`: base + a sum of learned basis elements, weighted by codes.

Every device holds the basis; an update carries only the codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from paramcast.adapters.base import Configuration, ParameterAdapter, Shape
from paramcast.adapters.targets import Selection


@dataclass(frozen=True)
class Basis(Configuration):
    """An update is one tensor `codes` (rank,): W + U^T diag(codes) V for matrices, b + codes @ B for vectors.

    Attributes:
        rank: Number of codes; all targets share them.
    """

    rank: int = 64

    def make(self, selection: Selection) -> BasisAdapter:
        """Make the adapter for the selected targets."""
        return BasisAdapter(selection, self.rank)


class BasisAdapter(ParameterAdapter):
    """Adapter of `Basis`.

    Basis element j of a matrix is the outer product of row j of U and row j of V; both are learned.

    Attributes:
        basis: U, V or B of every target. A key is the parameter's name with '/' instead of '.', followed by
            ':u', ':v' or ':basis'. Weights and biases of a layer LAYER have the keys LAYER:u, LAYER:v,
            LAYER:scale (a weight of one axis) and LAYER:bias, as in models of format 1 of the video
            application.
    """

    name = kind = "basis"

    def __init__(self, selection: Selection, rank: int) -> None:
        super().__init__(selection)
        self.rank = rank
        self.basis = nn.ParameterDict()
        device = self._device()
        for name, target in self.targets.items():
            if target.dim() > 1:
                rows, columns = target.shape[0], prod(target.shape[1:])
                self.basis[_key(name, "u")] = nn.Parameter(_normal((rank, rows), rows, device))
                self.basis[_key(name, "v")] = nn.Parameter(_normal((rank, columns), columns, device))
            else:
                self.basis[_key(name, "basis")] = nn.Parameter(
                    _normal((rank, *(target.shape or (1,))), rank, device)
                )

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the codes, the only tensor of an update."""
        return {"codes": (self.rank,)}

    def tensors(self) -> dict[str, Tensor]:
        """Return U and V of the matrices and B of the vectors."""
        found = {}
        for name, target in self.targets.items():
            for part in ("u", "v") if target.dim() > 1 else ("basis",):
                found[f"{self._names[name]}.{part}"] = self.basis[_key(name, part)]
        return found

    def _spread(self) -> dict[str, float]:
        return {"codes": 0.3}


def _normal(shape: Shape, count: int, device: torch.device) -> Tensor:
    drawn: Tensor = torch.randn(shape) * count**-0.5
    return drawn.to(device)


def _key(name: str, part: str) -> str:
    """Return the key of a part of a target's basis; a key of a ParameterDict may not hold a dot."""
    layer, _, attribute = name.rpartition(".")
    if attribute == "weight":
        return f"{layer.replace('.', '/')}:{'scale' if part == 'basis' else part}"
    if attribute == "bias" and part == "basis":
        return f"{layer.replace('.', '/')}:bias"
    return f"{name.replace('.', '/')}:{part}"
