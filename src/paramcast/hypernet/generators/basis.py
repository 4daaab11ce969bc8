"""Generator of `basis` and `statistics`: the outputs of the heads are the update."""

from __future__ import annotations

from torch import Tensor

from paramcast.hypernet.generators.base import Generator


class PlainGenerator(Generator):
    """Linear map of the hidden vector to the codes of a basis, or to shifts and scales of statistics."""

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from h (B, H)."""
        return self.raw(h)
