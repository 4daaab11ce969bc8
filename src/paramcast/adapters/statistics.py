"""`statistics`: an update moves the running statistics of normalization layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paramcast.adapters.base import Adapter, Configuration, Shape
from paramcast.adapters.errors import TargetError
from paramcast.adapters.targets import Owner, Selection
from paramcast.protocol import changes


@dataclass(frozen=True)
class NormStatistics(Configuration):
    """An update has LAYER.shift (C,) and LAYER.scale (C,) for every layer with running statistics.

    The running mean becomes mean + shift * sqrt(variance + eps). The running variance becomes
    variance * exp(scale).
    """

    def make(self, selection: Selection) -> StatisticsAdapter:
        """Make the adapter for the selected targets."""
        return StatisticsAdapter(selection)


class StatisticsAdapter(Adapter):
    """Adapter of `NormStatistics`; its base values are zeros."""

    name = kind = "statistics"

    def __init__(self, selection: Selection) -> None:
        if not selection.statistics:
            raise TargetError(
                "NormStatistics() found no layer with running statistics (BatchNorm, or InstanceNorm with "
                "track_running_stats=True) among the target modules; take another adapter or other targets"
            )
        super().__init__(
            {
                _inside(layer, attribute): Owner(module, attribute)
                for layer, module in selection.statistics.items()
                for attribute in (changes.MEAN, changes.VARIANCE)
            }
        )
        self._layers = tuple(selection.statistics)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of two vectors for each layer."""
        found = dict[str, Shape]()
        for layer in self._layers:
            length = tuple(self._owners[_inside(layer, changes.MEAN)].tensor.shape)
            found |= {changes.statistic_name(layer, what): length for what in ("shift", "scale")}
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return the standard deviation of each layer, which is the unit of a mean's shift."""
        found = {}
        for layer in self._layers:
            owner = self._owners[_inside(layer, changes.VARIANCE)]
            name = changes.tensor_name(_inside(layer, changes.MEAN))
            eps = getattr(owner.module, "eps", 1e-5)
            found[f"{name}.deviation"] = torch.sqrt(owner.tensor.detach().float() + eps)
        return found

    def _spread(self) -> dict[str, float]:
        return dict.fromkeys(self.shapes, 0.1)


def _inside(layer: str, attribute: str) -> str:
    return f"{layer}.{attribute}" if layer else attribute
