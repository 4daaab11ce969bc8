"""`full`: an update holds the targets themselves."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from paramcast.adapters.base import Configuration, ParameterAdapter, Shape, untraced
from paramcast.adapters.targets import Selection


@dataclass(frozen=True)
class Full(Configuration):
    """An update has a tensor NAME for every target, which takes its place."""

    def make(self, selection: Selection) -> FullAdapter:
        """Make the adapter for what was selected."""
        return FullAdapter(selection)


class FullAdapter(ParameterAdapter):
    """The targets as they are, in float32, are the base."""

    name = kind = "full"
    bottleneck = 16

    @property
    def shapes(self) -> dict[str, Shape]:
        """A tensor for each target."""
        return {self._names[name]: tuple(target.shape) or (1,) for name, target in self.targets.items()}

    def base_values(self) -> dict[str, Tensor]:
        """Copies of the targets."""
        with untraced():
            return {
                self._names[name]: target.detach().float().clone().reshape(target.shape or (1,))
                for name, target in self.targets.items()
            }

    def _spread(self) -> dict[str, float]:
        return {self._names[name]: 0.05 * size for name, size in self._sizes().items()}
