"""Generator of `full`: generates the whole target."""

from __future__ import annotations

from torch import Tensor

from paramcast.hypernet.generators.base import Generator


class FullGenerator(Generator):
    """Generates the target itself: the base values plus an unbounded change."""

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from h (B, H)."""
        base = self.adapter.base_values()
        return {name: base[name] + edit for name, edit in self.raw(h).items()}
