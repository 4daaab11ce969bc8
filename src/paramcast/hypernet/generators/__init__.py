"""Generators, one for each kind of adapter. Every generator has a file, and an entry in `GENERATORS`."""

from torch import Tensor, nn

from paramcast.adapters import Adapter
from paramcast.adapters.base import Composite
from paramcast.hypernet.generators.base import Generator
from paramcast.hypernet.generators.basis import PlainGenerator
from paramcast.hypernet.generators.full import FullGenerator
from paramcast.hypernet.generators.lowrank import LowRankGenerator
from paramcast.hypernet.generators.residual import ResidualGenerator

GENERATORS: dict[str, type[Generator]] = {
    "full": FullGenerator,
    "residual": ResidualGenerator,
    "lowrank": LowRankGenerator,
    "basis": PlainGenerator,
    "statistics": PlainGenerator,
}
"""Kind of adapter -> its generator."""


class CompositeGenerator(nn.Module):
    """Generators of several adapters as one module."""

    def __init__(self, hidden: int, parts: list[Adapter]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(make_generator(hidden, part) for part in parts)

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        """Generate the update tensors (B, *shape) of all parts from h (B, H)."""
        values: dict[str, Tensor] = {}
        for part in self.parts:
            values |= part(h)
        return values


def make_generator(hidden: int, adapter: Adapter) -> nn.Module:
    """Make the generator of an adapter's updates from a hidden vector of length `hidden`."""
    if isinstance(adapter, Composite):
        return CompositeGenerator(hidden, list(adapter.parts))  # type: ignore[arg-type]
    return GENERATORS[adapter.kind](hidden, adapter)


__all__ = ["GENERATORS", "CompositeGenerator", "Generator", "make_generator"]
