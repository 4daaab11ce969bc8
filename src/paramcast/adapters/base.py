"""Base classes of adapters: the tensors of an update, their base values, and the changed targets."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.adapters.errors import HugeAdapterWarning, TargetError, ValuesError
from paramcast.adapters.targets import Owner, Selection
from paramcast.protocol import changes

T = TypeVar("T")
Shape = tuple[int, ...]
Values = Mapping[str, Tensor]

HIDDEN = 256
"""Length of the hidden vector from which a hypernetwork generates an update."""
HUGE = 50_000_000
"""Number of parameters in a generator's last layers above which a warning is given."""


class Configuration(ABC):
    """Configuration of an adapter; each type of adapter has a frozen dataclass that derives from it."""

    @abstractmethod
    def make(self, selection: Selection) -> Adapter:
        """Make the adapter for the selected targets."""

    def build(self, module: nn.Module, target_modules: Sequence[str]) -> Adapter:
        """Build the adapter for the targets that the patterns select from a module; see `build_adapter`."""
        from paramcast.adapters.configs import build_adapter

        return build_adapter(self, module, target_modules)


class Adapter(nn.Module, ABC):
    """A way in which an update changes targets of a module.

    The state of an adapter holds the tensors that the device keeps beside the module (the basis of `Basis`).
    The module itself is not part of the adapter.

    Attributes:
        name: Form that an update names: the kind, or the names of the parts joined with '+'.
        kind: Kind of change; see `paramcast.protocol.changes`. '' for a composite.
        bottleneck: Width of a layer before the heads that generate the update, where the heads would be too
            large without such a layer; None for no such layer.
    """

    name: str
    kind: str
    bottleneck: ClassVar[int | None] = None

    def __init__(self, owners: Mapping[str, Owner]) -> None:
        super().__init__()
        self._owners = dict(owners)  # not of modules: torch would register those as parts of the adapter

    @property
    def targets(self) -> dict[str, Tensor]:
        """Every tensor that an update may change, by its canonical name in the module."""
        return {name: owner.tensor for name, owner in self._owners.items()}

    @property
    @abstractmethod
    def shapes(self) -> dict[str, Shape]:
        """Shapes of the tensors of an update by name, without a device axis."""

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Kinds of change of each target, in their order; see `paramcast.protocol.changes`."""
        return dict.fromkeys(self._owners, (self.kind,))

    def base_values(self) -> dict[str, Tensor]:
        """Return the values (float32, without a device axis) that leave the module unchanged."""
        device = self._device()
        return {name: torch.zeros(shape, device=device) for name, shape in self.shapes.items()}

    def probe_values(self, seed: int = 0, size: float = 1.0) -> dict[str, Tensor]:
        """Draw random values that change the module moderately, for checks and trials.

        Args:
            seed: Seed of the draws.
            size: Factor of the changes.
        """
        draws = torch.Generator().manual_seed(seed)
        spread = self._spread()
        return {
            name: base + size * spread[name] * torch.randn(base.shape, generator=draws).to(base.device)
            for name, base in self.base_values().items()
        }

    def changed(self, values: Values) -> dict[str, Tensor]:
        """Compute the changed targets, each in the target's shape and dtype; differentiable.

        Args:
            values: Tensors of an update, without a device axis.
        """
        constants, kinds, result, values = self.tensors(), self.kinds, {}, self.renamed(values)
        for name, target in self.targets.items():
            base = target.detach()
            value = base if base.dtype == torch.float64 else base.float()
            for kind in kinds[name]:
                value = changes.changed(kind, name, value, values, constants)
            result[name] = value.to(base.dtype)
        return result

    def renamed(self, values: Values) -> Values:
        """Return values under the names of `paramcast.protocol.changes`, where an update has other names."""
        return values

    def tensors(self) -> dict[str, Tensor]:
        """Return the constants on the device, by the names of `paramcast.protocol.changes`."""
        return {}

    def constants(self) -> dict[str, np.ndarray]:
        """Return the constants on the device as float32 arrays."""
        return {
            name: np.ascontiguousarray(value.detach().float().cpu().numpy())
            for name, value in self.tensors().items()
        }

    def check_values(self, values: Values, *, devices: int | None = None) -> None:
        """Raise ValuesError unless `values` are exactly the tensors of an update.

        Args:
            values: Tensors, with a leading device axis if `devices` is given.
            devices: Length of that axis.
        """
        shapes = self.shapes
        if missing := shapes.keys() - values.keys():
            raise ValuesError(f"the update lacks {_listed(missing)}")
        if surplus := values.keys() - shapes.keys():
            raise ValuesError(f"the update has tensors that this adapter does not know: {_listed(surplus)}")
        for name, shape in shapes.items():
            wanted = shape if devices is None else (devices, *shape)
            if tuple(values[name].shape) != wanted:
                raise ValuesError(f"tensor {name} must have shape {wanted}, not {tuple(values[name].shape)}")
            # In training, the trainer reports a loss that is not finite.
            if not values[name].requires_grad and not torch.isfinite(values[name]).all():
                raise ValuesError(f"tensor {name} holds NaN or an infinity")

    @abstractmethod
    def _spread(self) -> dict[str, float]:
        """Return the standard deviation of `probe_values` of size 1, for each tensor of an update."""

    def _device(self) -> torch.device:
        return next(iter(self._owners.values())).tensor.device


class ParameterAdapter(Adapter):
    """An adapter of one kind that changes parameters."""

    def __init__(self, selection: Selection) -> None:
        if not selection.parameters:
            raise TargetError(f"the target modules have no parameters for the adapter {self.name!r}")
        super().__init__(selection.parameters)
        self._names = {name: changes.tensor_name(name) for name in self._owners}

    def _matrices(self) -> dict[str, tuple[int, int]]:
        """Return the rows and columns of every target with two or more axes."""
        return {
            name: (target.shape[0], prod(target.shape[1:]))
            for name, target in self.targets.items()
            if target.dim() > 1
        }

    def _sizes(self) -> dict[str, float]:
        """Compute the root mean square of each target."""
        return {name: root_mean_square(target) for name, target in self.targets.items()}


class Composite(Adapter):
    """Several adapters at once. Where two change the same target, the later changes the earlier's result."""

    def __init__(self, parts: Sequence[Adapter]) -> None:
        owners: dict[str, Owner] = {}
        for part in parts:
            owners |= part._owners
        super().__init__(owners)
        self.parts = nn.ModuleList(parts)
        self.kind, self.name = "", "+".join(part.name for part in parts)
        names = [name for part in parts for name in part.shapes]
        if twice := {name for name in names if names.count(name) > 1}:
            raise TargetError(
                f"adapters {self.name} both generate {_listed(twice)}; take one of them, or other "
                "target modules"
            )

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of the tensors of all parts."""
        return _merged(part.shapes for part in self._parts())

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Kinds of the parts that change each target, in their order."""
        each = [part.kinds for part in self._parts()]
        return {name: tuple(kind for known in each for kind in known.get(name, ())) for name in self._owners}

    def renamed(self, values: Values) -> Values:
        """Rename values as every part renames them."""
        for part in self._parts():
            values = part.renamed(values)
        return values

    def base_values(self) -> dict[str, Tensor]:
        """Return the base values of all parts."""
        return _merged(part.base_values() for part in self._parts())

    def tensors(self) -> dict[str, Tensor]:
        """Return the constants on the device of all parts."""
        return _merged(part.tensors() for part in self._parts())

    def _spread(self) -> dict[str, float]:
        return _merged(part._spread() for part in self._parts())

    def _parts(self) -> list[Adapter]:
        return list(self.parts)  # type: ignore[arg-type]


def check_names(adapter: Adapter) -> None:
    """Raise TargetError where two targets would have the same name in an update."""
    names = [changes.tensor_name(target) for target in adapter.targets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TargetError(f"two targets would be called {_listed(twice)} in an update; rename a module")


def warn_if_huge(adapter: Adapter) -> None:
    """Warn of an adapter whose generator would be huge, and name smaller alternatives."""
    numbers = sum(prod(shape) for shape in adapter.shapes.values())
    parts = adapter._parts() if isinstance(adapter, Composite) else [adapter]
    heads = sum((part.bottleneck or HIDDEN) * sum(map(prod, part.shapes.values())) for part in parts)
    if heads > HUGE:
        warnings.warn(
            f"an update of adapter {adapter.name!r} has {numbers:,} numbers, so that the hypernetwork's last "
            f"layers need about {heads / 1e6:,.0f} million parameters; Basis(rank=64) adapts the "
            "same targets "
            "with 64 numbers, or choose fewer target modules",
            HugeAdapterWarning,
            stacklevel=4,
        )


@contextmanager
def untraced() -> Iterator[None]:
    """Switch torch's tracer off to compute constants; the tracer refuses parameters that it does not know."""
    tracer: Any = torch._C
    state = tracer._get_tracing_state()
    tracer._set_tracing_state(None)
    try:
        yield
    finally:
        tracer._set_tracing_state(state)


def root_mean_square(tensor: Tensor) -> float:
    """Compute the root mean square of a tensor's entries, at least 0.001."""
    return max(float(tensor.detach().float().square().mean().sqrt()), 1e-3)


def _merged(each: Iterable[dict[str, T]]) -> dict[str, T]:
    return {name: value for one in each for name, value in one.items()}


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
