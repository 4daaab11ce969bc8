"""Where updates start from: what a device can do for itself. An update comes on top of it.

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
"""Begins the names of a start's tensors among those of an update."""


_STATISTICS = (ReestimatedStatistics, LearnedAlignment)


class Start:
    """A free baseline as changed tensors.

    Args:
        method: The baseline, as it was learned on training devices.
        strength: Of the baseline.
    """

    def __init__(self, method: FreeBaseline, strength: float) -> None:
        self.method, self.strength = method, strength

    @classmethod
    def of(cls, net: nn.Module, method: FreeBaseline, strength: float) -> Start | None:
        """Return the start that a baseline stands for; None where it cannot be written as changed tensors."""
        if isinstance(method, _STATISTICS) or _last_linear(net) is not None:
            return cls(method, strength)
        return None

    def names(self, net: nn.Module) -> list[str]:
        """Name the tensors that change."""
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
        """Compute the changed tensors from the support examples, on the base module in its present state."""
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
    """An adapter whose updates carry the tensors of a start beside their own.

    Args:
        adapter: What is generated.
        net: The module.
        names: Tensors of the start.
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
        """Kinds of change of the adapter's targets; that of a start has no fast path."""
        own = self._inner[0].kinds
        return own | {name: (*own.get(name, ()), "start") for name in self._start}

    def _spread(self) -> dict[str, float]:
        own = self._inner[0]._spread()
        return own | {PREFIX + name: root_mean_square(self._tensor(name)) for name in self._start}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensors of both."""
        return self._inner[0].shapes | {
            PREFIX + name: tuple(self._tensor(name).shape) for name in self._start
        }

    def changed(self, values: Values) -> dict[str, Tensor]:
        """Add what the update changes to the start."""
        own = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
        result = self._inner[0].changed(own)
        for name in self._start:
            base, start = self._tensor(name).detach(), values[PREFIX + name]
            result[name] = result[name] + (start - base) if name in result else start
        return result

    def base_values(self) -> dict[str, Tensor]:
        """Leave the module as it is."""
        return self._inner[0].base_values() | {
            PREFIX + name: self._tensor(name).detach().clone() for name in self._start
        }

    def _tensor(self, name: str) -> Tensor:
        owner, _, attribute = name.rpartition(".")
        found = getattr(self._net[0].get_submodule(owner), attribute)
        assert isinstance(found, Tensor)
        return found


def starting(start: Start | None, net: nn.Module, supports: Sequence[Any]) -> dict[str, Tensor]:
    """Return the start's tensors of B devices (B, ...), as a part of their updates.

    Args:
        start: None: no tensors.
        net: The base module.
        supports: Inputs of the support examples of each device.
    """
    if start is None:
        return {}
    net.eval()
    each = [start.values(net, support) for support in supports]
    return {PREFIX + name: torch.stack([one[name] for one in each]) for name in each[0]}


def _last_linear(net: nn.Module) -> str | None:
    """Name the last linear layer, as `MeanRemoval` finds it; None without one that has a bias."""
    linear = [name for name, part in net.named_modules() if type(part) is nn.Linear and part.bias is not None]
    return linear[-1] if linear else None
