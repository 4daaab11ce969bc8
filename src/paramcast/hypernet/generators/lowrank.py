"""`lowrank`: factors A and B for every matrix."""

from __future__ import annotations

from torch import Tensor, nn, randn

from paramcast.adapters.dynamic import Dynamic
from paramcast.hypernet.generators.base import Generator


class LowRankGenerator(Generator):
    """A starts at zero; B at a learned matrix, or neither would ever receive a gradient."""

    form = "lowrank"

    def __init__(self, hidden: int, dynamic: Dynamic) -> None:
        super().__init__(hidden, dynamic)
        self.templates = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(randn(shape) * shape[-1] ** -0.5)
                for name, shape in self.shapes.items()
                if name.endswith(".b")
            }
        )

    def forward(self, h: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Package tensors (B, *shape) from h (B, H)."""
        raw = self.raw(h)
        for name in raw:
            if name.endswith(".b"):
                raw[name] = raw[name] + self.templates[name.replace(".", "/")]
        return raw
