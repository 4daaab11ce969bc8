"""`residual`: base + bounded edit."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from paramcast.adapters.dynamic import Dynamic
from paramcast.hypernet.generators.base import Generator


class ResidualGenerator(Generator):
    """An edit whose every entry stays within `bound` root mean squares of the tensor that it edits."""

    form = "residual"
    bottleneck = 16
    bound = 1.0

    def forward(self, h: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Package tensors (B, *shape) from h (B, H)."""
        edits = {}
        for name, raw in self.raw(h).items():
            layer, kind = name.rsplit(".", 1)
            base = cast(Tensor, getattr(dynamic.layers[layer], kind)).detach()
            limit = self.bound * base.square().mean().sqrt().clamp(min=1e-3)
            edits[name] = limit * (raw / limit).tanh()
        return edits
