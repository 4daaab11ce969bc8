"""`centre`: a mean feature, taken away before the first layers; beside an adapter of any kind.

What a device sees differs from the training set first of all in its mean. Subtracting it is the simplest of
adaptations, and needs no learning but of how far to trust the estimate. The device has the effect of each
direction on a layer's output; an update brings one coefficient a direction. So it is a second basis, over
biases, that is given and not learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from paramcast.adapters.base import Adapter, Shape
from paramcast.adapters.errors import TargetError
from paramcast.adapters.targets import select


class CentreAdapter(Adapter):
    """One tensor `centre` (count,) for all centred layers.

    Args:
        module: Any module.
        layers: Names of the centred layers; all have a bias.
        count: Number of directions, of all layers together.
    """

    name = kind = "centre"

    def __init__(self, module: nn.Module, layers: Sequence[str], count: int) -> None:
        parameters = dict(module.named_parameters())
        if unknown := [name for name in layers if f"{name}.bias" not in parameters]:
            raise TargetError(f"centred layers need a bias; not so: {', '.join(unknown)}")
        super().__init__(select(module, [f"{name}.bias" for name in layers]).parameters)
        self.count = count
        self.basis = nn.ParameterDict(
            {_key(name): torch.zeros(count, *target.shape) for name, target in self.targets.items()}
        )

    @property
    def shapes(self) -> dict[str, Shape]:
        """The coefficients alone."""
        return {"centre": (self.count,)}

    def set_basis(self, layer: str, effects: Tensor) -> None:
        """Say what each direction adds to the output of a layer: effects (count, outputs)."""
        with torch.no_grad():
            self.basis[_key(f"{layer}.bias")].copy_(effects)

    def tensors(self) -> dict[str, Tensor]:
        """The effects of each direction."""
        return {f"{name}.centre": self.basis[_key(name)] for name in self._owners}

    def _spread(self) -> dict[str, float]:
        return {"centre": 0.3}


def _key(name: str) -> str:
    return name.removesuffix(".bias").replace(".", "/")  # a parameter's name may not hold a dot
