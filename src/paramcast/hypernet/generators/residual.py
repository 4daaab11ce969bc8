"""`residual`: base + bounded edit."""

from __future__ import annotations

from torch import Tensor

from paramcast.adapters.residual import ResidualAdapter
from paramcast.hypernet.generators.base import Generator


class ResidualGenerator(Generator):
    """An edit whose every entry stays within the root mean square of the tensor that it edits."""

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Update tensors (B, *shape) from h (B, H)."""
        adapter = self.adapter
        assert isinstance(adapter, ResidualAdapter)
        return adapter.bounded(self.raw(h))
