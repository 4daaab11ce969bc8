"""`centre`: subtract a mean feature before the first layers, beside an adapter of any kind.

The data of a device differ from the training set first of all in their mean. Subtracting the mean is the
simplest adaptation; only the weight of the estimate has to be learned. The device holds the effect of each
direction on a layer's output, and an update carries one coefficient for each direction. So `centre` is a
second basis, over biases, that is given and not learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from paramcast.adapters.base import Adapter, Shape
from paramcast.adapters.errors import TargetError
from paramcast.adapters.targets import select


class CentreAdapter(Adapter):
    """An update has one tensor `centre` (count,) for all centered layers.

    Args:
        module: Any module.
        layers: Names of the centered layers; each has a bias.
        count: Number of directions; all layers share them.
    """

    name = kind = "centre"

    def __init__(self, module: nn.Module, layers: Sequence[str], count: int) -> None:
        parameters = dict(module.named_parameters())
        if unknown := [name for name in layers if f"{name}.bias" not in parameters]:
            raise TargetError(f"centred layers need a bias; these have none: {', '.join(unknown)}")
        super().__init__(select(module, [f"{name}.bias" for name in layers]).parameters)
        self.count = count
        self.basis = nn.ParameterDict(
            {_key(name): torch.zeros(count, *target.shape) for name, target in self.targets.items()}
        )

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the coefficients, the only tensor of an update."""
        return {"centre": (self.count,)}

    def set_basis(self, layer: str, effects: Tensor) -> None:
        """Set the vector that each direction adds to the output of a layer: effects (count, outputs)."""
        with torch.no_grad():
            self.basis[_key(f"{layer}.bias")].copy_(effects)

    def tensors(self) -> dict[str, Tensor]:
        """Return the effects of each direction on each layer."""
        return {f"{name}.centre": self.basis[_key(name)] for name in self._owners}

    def _spread(self) -> dict[str, float]:
        return {"centre": 0.3}


def _key(name: str) -> str:
    return name.removesuffix(".bias").replace(".", "/")  # a key of a ParameterDict may not hold a dot
