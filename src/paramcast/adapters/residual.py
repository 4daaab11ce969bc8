"""`residual`: an update holds a bounded edit of every target, added to the base."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paramcast.adapters.base import Configuration, ParameterAdapter, Shape, untraced
from paramcast.adapters.targets import Selection

BOUND = 1.0
"""Largest magnitude of an entry of a generated edit, as a multiple of its target's root mean square."""


@dataclass(frozen=True)
class Residual(Configuration):
    """An update has a tensor NAME for every target; the tensor is added to the target."""

    def make(self, selection: Selection) -> ResidualAdapter:
        """Make the adapter for the selected targets."""
        return ResidualAdapter(selection)


class ResidualAdapter(ParameterAdapter):
    """Adapter of `Residual`; its base values are zeros."""

    name = kind = "residual"
    bottleneck = 16

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of a tensor for each target."""
        return {self._names[name]: tuple(target.shape) or (1,) for name, target in self.targets.items()}

    def bounded(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bound edits smoothly so that every entry stays within the root mean square of its target.

        Args:
            values: Tensors of an update, with any leading axes.
        """
        with untraced():
            limits = {
                self._names[name]: BOUND * target.detach().float().square().mean().sqrt().clamp(min=1e-3)
                for name, target in self.targets.items()
            }
        return {name: limits[name] * torch.tanh(value / limits[name]) for name, value in values.items()}

    def _spread(self) -> dict[str, float]:
        return {self._names[name]: 0.05 * size for name, size in self._sizes().items()}
