"""Generator of `lowrank`: generates the factors A and B of every matrix."""

from __future__ import annotations

from torch import Tensor, nn, randn

from paramcast.adapters import Adapter
from paramcast.hypernet.generators.base import Generator, key_of


class LowRankGenerator(Generator):
    """Generates A, which starts at zero, and B, which starts at a learned matrix.

    If both started at zero, neither would ever receive a gradient.
    """

    def __init__(self, hidden: int, adapter: Adapter) -> None:
        super().__init__(hidden, adapter)
        self._second = [
            name for name, shape in self.shapes.items() if name.endswith(".b") and len(shape) == 2
        ]
        self.templates = nn.ParameterDict(
            {
                key_of(name): nn.Parameter(randn(self.shapes[name]) * self.shapes[name][-1] ** -0.5)
                for name in self._second
            }
        )

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from h (B, H)."""
        raw = self.raw(h)
        return raw | {name: raw[name] + self.templates[key_of(name)] for name in self._second}
