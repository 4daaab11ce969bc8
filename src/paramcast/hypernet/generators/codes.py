"""`codes`: coefficients of the learned basis."""

from __future__ import annotations

from torch import Tensor

from paramcast.adapters.dynamic import Dynamic
from paramcast.hypernet.generators.base import Generator


class CodesGenerator(Generator):
    """The codes are the hidden vector's linear image; the basis lies with the device (`CodesEdit`)."""

    form = "codes"

    def forward(self, h: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Package tensors (B, *shape) from h (B, H)."""
        return self.raw(h)
