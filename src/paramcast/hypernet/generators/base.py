"""From a hidden vector to the tensors of a package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from paramcast.adapters.dynamic import Dynamic


class Generator(nn.Module, ABC):
    """Linear maps from h (B, H) to every package tensor (B, *shape), zero-initialized: it starts at the base.

    Every weight is a registered parameter.

    Args:
        hidden: Length H of the hidden vector.
        dynamic: The model whose layers the package edits.
    """

    form: ClassVar[str]
    bottleneck: ClassVar[int | None] = None
    """Width of a layer before the heads, where the heads would be too large without."""

    def __init__(self, hidden: int, dynamic: Dynamic) -> None:
        super().__init__()
        self.shapes = dynamic.edit.shapes()
        width = self.bottleneck or hidden
        self.narrow = nn.Linear(hidden, width) if self.bottleneck else nn.Identity()
        self.heads = nn.ModuleDict(
            {_key(name): _zero_linear(width, prod(shape)) for name, shape in self.shapes.items()}
        )

    def raw(self, h: Tensor) -> dict[str, Tensor]:
        """The heads' outputs, in the shapes of the package tensors."""
        h = self.narrow(h)
        return {name: self.heads[_key(name)](h).unflatten(1, shape) for name, shape in self.shapes.items()}

    @abstractmethod
    def forward(self, h: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Package tensors (B, *shape) from h (B, H)."""


def _key(name: str) -> str:
    return name.replace(".", "/")  # a module's name may not hold a dot


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
