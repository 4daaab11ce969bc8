"""Models of the sweep: name -> how to build a model and what an update may change of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

ROWS = 3
Built = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Model:
    """A tiny model of random weights.

    Attributes:
        family: The package that it is from.
        build: Makes the module, and inputs of 3 examples.
        targets: Patterns of the parameters that an update may change.
    """

    family: str
    build: Callable[[], Built]
    targets: list[str]


MODELS: dict[str, Model] = {}


def model(family: str, name: str, targets: str = "*") -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a model by the function that builds it; `targets` are separated by blanks."""

    def add(build: Callable[[], Built]) -> Callable[[], Built]:
        def seeded() -> Built:
            torch.manual_seed(0)
            return build()

        MODELS[f"{family} {name}"] = Model(family, seeded, targets.split())
        return build

    return add


def rows_of(x: Any, count: int) -> Any:
    """Repeat the examples of a tensor until there are `count`."""
    if not isinstance(x, Tensor):
        return x
    return x[torch.arange(count) % len(x)]


def another(inputs: Any, seed: int) -> Any:
    """Make inputs of the same shapes for another device: new floats; integers and masks with rows moved."""
    draws = torch.Generator().manual_seed(seed)

    def changed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            return ((1 + 0.1 * seed) * torch.randn(leaf.shape, generator=draws) + 0.1 * seed).to(leaf.dtype)
        return leaf.roll(seed, 0)

    return pytree.tree_map(changed, inputs)
