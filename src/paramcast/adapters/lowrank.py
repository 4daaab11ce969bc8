"""`lowrank`: add a product a b of low rank to a matrix (LoRA, Hu et al., arXiv 2106.09685).

A whole vector is added to a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

from paramcast.adapters.base import Configuration, ParameterAdapter, Shape
from paramcast.adapters.targets import Selection


@dataclass(frozen=True)
class LowRank(Configuration):
    """An update has NAME.a (O, rank) and NAME.b (rank, I) for every matrix, and NAME for every vector.

    Attributes:
        rank: Rank of the product a b.
    """

    rank: int = 4

    def make(self, selection: Selection) -> LowRankAdapter:
        """Make the adapter for the selected targets."""
        return LowRankAdapter(selection, self.rank)


class LowRankAdapter(ParameterAdapter):
    """Adapter of `LowRank`, with two factors for each matrix; its base values are zeros."""

    name = kind = "lowrank"

    def __init__(self, selection: Selection, rank: int) -> None:
        super().__init__(selection)
        self.rank = rank

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of the factors of the matrices, and of the vectors."""
        matrices, found = self._matrices(), dict[str, Shape]()
        for name, target in self.targets.items():
            if name in matrices:
                rows, columns = matrices[name]
                found[f"{self._names[name]}.a"] = (rows, self.rank)
                found[f"{self._names[name]}.b"] = (self.rank, columns)
            else:
                found[self._names[name]] = tuple(target.shape) or (1,)
        return found

    def _spread(self) -> dict[str, float]:
        found = dict[str, float]()
        for name, size in self._sizes().items():
            if name in self._matrices():
                factor = (0.1 * size / self.rank**0.5) ** 0.5
                found |= {f"{self._names[name]}.{part}": factor for part in "ab"}
            else:
                found[self._names[name]] = 0.05 * size
        return found
