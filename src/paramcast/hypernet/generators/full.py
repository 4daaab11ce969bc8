"""`full`: the whole layer."""

from __future__ import annotations

from torch import Tensor

from paramcast.adapters.dynamic import Dynamic
from paramcast.hypernet.generators.base import Generator


class FullGenerator(Generator):
    """The layer itself: the base values plus what the context asks for, unbounded."""

    form = "full"
    bottleneck = 16

    def forward(self, h: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Package tensors (B, *shape) from h (B, H)."""
        base = dynamic.base_values()
        return {name: base[name] + edit for name, edit in self.raw(h).items()}
