"""Base class of the generators, which turn a hidden vector into the tensors of an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

from torch import Tensor, nn

from paramcast.adapters import Adapter


class Generator(nn.Module, ABC):
    """Linear maps (heads) from h (B, H) to every update tensor (B, *shape).

    The heads are zero-initialized, so that the first updates equal the base. Every weight is a registered
    parameter.

    Args:
        hidden: Length H of the hidden vector.
        adapter: Adapter for which updates are generated. It is no part of this module's state.
    """

    def __init__(self, hidden: int, adapter: Adapter) -> None:
        super().__init__()
        self._adapter = [adapter]
        self.shapes = adapter.shapes
        width = adapter.bottleneck or hidden
        self.narrow = nn.Linear(hidden, width) if adapter.bottleneck else nn.Identity()
        self.heads = nn.ModuleDict(
            {key_of(name): _zero_linear(width, prod(shape)) for name, shape in self.shapes.items()}
        )

    @property
    def adapter(self) -> Adapter:
        """Adapter for which updates are generated."""
        return self._adapter[0]

    def raw(self, h: Tensor) -> dict[str, Tensor]:
        """Compute the outputs of the heads, in the shapes (B, *shape) of the update tensors."""
        h = self.narrow(h)
        return {name: self.heads[key_of(name)](h).unflatten(1, shape) for name, shape in self.shapes.items()}

    @abstractmethod
    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from h (B, H)."""


def key_of(name: str) -> str:
    """Turn a tensor's name into a submodule's name, which must hold no dot and differ from all attributes."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(nn.ModuleDict, key) or hasattr(nn.Module(), key) else key


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
