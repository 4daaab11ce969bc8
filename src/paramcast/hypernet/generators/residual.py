"""Generator of `residual`: generates a bounded edit of the base."""

from __future__ import annotations

from torch import Tensor

from paramcast.adapters.residual import ResidualAdapter
from paramcast.hypernet.generators.base import Generator


class ResidualGenerator(Generator):
    """Generates an edit whose entries stay within the root mean square of the tensor that it changes."""

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from h (B, H)."""
        adapter = self.adapter
        assert isinstance(adapter, ResidualAdapter)
        return adapter.bounded(self.raw(h))
