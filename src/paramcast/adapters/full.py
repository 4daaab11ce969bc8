"""`full`: an update holds the new values of the targets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from paramcast.adapters.base import Configuration, ParameterAdapter, Shape, untraced
from paramcast.adapters.targets import Selection


@dataclass(frozen=True)
class Full(Configuration):
    """An update has a tensor NAME for every target; the tensor replaces the target."""

    def make(self, selection: Selection) -> FullAdapter:
        """Make the adapter for the selected targets."""
        return FullAdapter(selection)


class FullAdapter(ParameterAdapter):
    """Adapter of `Full`; its base values are the unchanged targets in float32."""

    name = kind = "full"
    bottleneck = 16

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of a tensor for each target."""
        return {self._names[name]: tuple(target.shape) or (1,) for name, target in self.targets.items()}

    def base_values(self) -> dict[str, Tensor]:
        """Return copies of the targets."""
        with untraced():
            return {
                self._names[name]: target.detach().float().clone().reshape(target.shape or (1,))
                for name, target in self.targets.items()
            }

    def _spread(self) -> dict[str, float]:
        return {self._names[name]: 0.05 * size for name, size in self._sizes().items()}
