"""The start of updates: a free baseline, which a device computes itself. An update is added to it.

Every free baseline can be written as changed tensors of the module: running statistics, or the last
layer's bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paramcast.adapters.base import Adapter, Values, root_mean_square
from paramcast.training import examples
from paramcast.training.alignment import LearnedAlignment
from paramcast.training.baselines import (
    FreeBaseline,
    MeanRemoval,
    PriorCorrection,
    ReestimatedStatistics,
    norm_layers,
    restored,
)

PREFIX = "start:"
"""Prefix of the names of the start's tensors in an update."""


_STATISTICS = (ReestimatedStatistics, LearnedAlignment)


class Start:
    """A free baseline in the form of changed tensors.

    Args:
        method: The baseline, with the values that it learned from training devices.
        strength: Strength of the baseline.
    """

    def __init__(self, method: FreeBaseline, strength: float) -> None:
        self.method, self.strength = method, strength

    @classmethod
    def of(cls, net: nn.Module, method: FreeBaseline, strength: float) -> Start | None:
        """Make the start of a baseline; None where it cannot be written as changed tensors."""
        if isinstance(method, _STATISTICS) or _last_linear(net) is not None:
            return cls(method, strength)
        return None

    def names(self, net: nn.Module) -> list[str]:
        """List the names of the changed tensors."""
        if isinstance(self.method, _STATISTICS):
            layers = {id(layer) for layer in norm_layers(net)}
            named = [name for name, part in net.named_modules() if id(part) in layers]
            return [
                f"{name}.{which}" if name else which
                for name in named
                for which in ("running_mean", "running_var")
            ]
        return [f"{_last_linear(net)}.bias"]

    def values(self, net: nn.Module, support: Any) -> dict[str, Tensor]:
        """Compute the changed tensors from the support examples, with the base module's present state."""
        with torch.no_grad():
            if isinstance(self.method, _STATISTICS):
                if examples.count(support) < 2:
                    return {name: net.get_buffer(name).clone() for name in self.names(net)}
                with restored(net):
                    self.method.learn_statistics(net, support, self.strength)
                    return {name: net.get_buffer(name).clone() for name in self.names(net)}
            (name,) = self.names(net)
            layer = net.get_submodule(name.rpartition(".")[0])
            assert isinstance(layer, nn.Linear)
            if isinstance(self.method, MeanRemoval):
                change = -layer.weight @ self.method.shift(net, support, self.strength)
            else:
                assert isinstance(self.method, PriorCorrection)
                change = self.method.correction(net, support, self.strength)
            return {name: (layer.bias + change).detach()}


class Started(Adapter):
    """An adapter whose updates also contain the tensors of a start.

    Args:
        adapter: The adapter of the generated tensors.
        net: The module.
        names: Names of the start's tensors.
    """

    def __init__(self, adapter: Adapter, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__(adapter._owners)
        self._inner = [adapter]
        self.name = adapter.name
        self._net, self._start = [net], tuple(names)

    @property
    def targets(self) -> dict[str, Tensor]:
        """Targets of the adapter, and the tensors of the start."""
        return self._inner[0].targets | {name: self._tensor(name) for name in self._start}

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Kinds of change of the adapter's targets; the kind 'start' has no fast path."""
        own = self._inner[0].kinds
        return own | {name: (*own.get(name, ()), "start") for name in self._start}

    def _spread(self) -> dict[str, float]:
        own = self._inner[0]._spread()
        return own | {PREFIX + name: root_mean_square(self._tensor(name)) for name in self._start}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the adapter's tensors and of the start's tensors."""
        return self._inner[0].shapes | {
            PREFIX + name: tuple(self._tensor(name).shape) for name in self._start
        }

    def changed(self, values: Values) -> dict[str, Tensor]:
        """Compute the changed targets: the start plus the changes of the update."""
        own = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
        result = self._inner[0].changed(own)
        for name in self._start:
            base, start = self._tensor(name).detach(), values[PREFIX + name]
            result[name] = result[name] + (start - base) if name in result else start
        return result

    def base_values(self) -> dict[str, Tensor]:
        """Return the values that leave the module unchanged."""
        return self._inner[0].base_values() | {
            PREFIX + name: self._tensor(name).detach().clone() for name in self._start
        }

    def _tensor(self, name: str) -> Tensor:
        owner, _, attribute = name.rpartition(".")
        found = getattr(self._net[0].get_submodule(owner), attribute)
        assert isinstance(found, Tensor)
        return found


def starting(start: Start | None, net: nn.Module, supports: Sequence[Any]) -> dict[str, Tensor]:
    """Compute the start's tensors of B devices (B, ...), as a part of their updates.

    Args:
        start: The start; None: no tensors.
        net: The base module.
        supports: Inputs of the support examples of each device.
    """
    if start is None:
        return {}
    net.eval()
    each = [start.values(net, support) for support in supports]
    return {PREFIX + name: torch.stack([one[name] for one in each]) for name in each[0]}


def _last_linear(net: nn.Module) -> str | None:
    """Return the name of the last linear layer with a bias, or None."""
    linear = [name for name, part in net.named_modules() if type(part) is nn.Linear and part.bias is not None]
    return linear[-1] if linear else None
