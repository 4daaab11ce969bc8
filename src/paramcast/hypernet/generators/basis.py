"""`basis` and `statistics`: coefficients as the heads give them."""

from __future__ import annotations

from torch import Tensor

from paramcast.hypernet.generators.base import Generator


class PlainGenerator(Generator):
    """The hidden vector's linear image: the codes of a basis, or shifts and scales of statistics."""

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Update tensors (B, *shape) from h (B, H)."""
        return self.raw(h)
