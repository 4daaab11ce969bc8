"""From a hidden vector to the tensors of an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

from torch import Tensor, nn

from paramcast.adapters import Adapter


class Generator(nn.Module, ABC):
    """Linear maps from h (B, H) to every update tensor (B, *shape), zero-initialized: it starts at the base.

    Every weight is a registered parameter.

    Args:
        hidden: Length H of the hidden vector.
        adapter: Whose updates are generated. It is no part of this module's state.
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
        """Whose updates are generated."""
        return self._adapter[0]

    def raw(self, h: Tensor) -> dict[str, Tensor]:
        """The heads' outputs, in the shapes of the update tensors."""
        h = self.narrow(h)
        return {name: self.heads[key_of(name)](h).unflatten(1, shape) for name, shape in self.shapes.items()}

    @abstractmethod
    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Update tensors (B, *shape) from h (B, H)."""


def key_of(name: str) -> str:
    """A tensor's name as the name of a module, which may not hold a dot, nor be that of an attribute."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(nn.ModuleDict, key) or hasattr(nn.Module(), key) else key


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
