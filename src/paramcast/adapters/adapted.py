"""A module under updates: its definition, and many devices in one batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from paramcast.adapters.base import Adapter, Values
from paramcast.adapters.checking import CheckReport, check
from paramcast.adapters.replica import Pairs, make_replica, running
from paramcast.adapters.targets import refuse_scripted
from paramcast.adapters.trees import Inputs, arguments, flatten, is_plain, signature
from paramcast.protocol import changes

Mode = Literal["fast", "vmap", "loop"]


class NotBatched(Exception):
    """Devices cannot be run in one batch in this mode."""


class AdaptedModule:
    """A module, run with the parameters of this device or that.

    It works on a replica over the same parameters and buffers, always in evaluation mode: the user's module gets no
    hooks, keeps its training mode, and can be pickled, copied, scripted and compiled as before. What an update
    means is the definition, `torch.func.functional_call` with the changed targets. Calls from several threads
    wait for each other.

    Attributes:
        module: The user's module.
        adapter: What an update changes of it, and how.
        replica: The module that runs.
        mode: How `batched` runs several devices: 'loop' until `check` has found that another mode gives the same.
    """

    def __init__(self, module: nn.Module, adapter: Adapter) -> None:
        refuse_scripted(module)
        self.module, self.adapter = module, adapter
        self.replica = make_replica(module)
        self.mode: Mode = "loop"
        self._pairs = Pairs(module, self.replica)
        self._lock = threading.RLock()
        self._statistics = any(name.rpartition(".")[2] in _STATISTICS for name in adapter.targets)

    def __call__(self, inputs: Inputs, values: Values | None = None) -> Any:
        """Run one device.

        Args:
            inputs: One tensor, a tuple (positional arguments) or a mapping (keyword arguments).
            values: Tensors of an update without a device axis; None is the base.

        Returns:
            What the module returns.

        Raises:
            ValuesError: Values that are not exactly an update's tensors, or not finite.
        """
        if values is None:
            return self.run(inputs, None)
        self.adapter.check_values(values)
        return self.run(inputs, self.adapter.changed(values))

    def run(self, inputs: Inputs, targets: Values | None) -> Any:
        """Run with targets put in their places: the definition. None is the base."""
        args, kwargs = arguments(inputs)
        with self.calling(statistics=targets is not None):
            return functional_call(self.replica, dict(targets or {}), args, kwargs, tie_weights=True)

    @contextmanager
    def calling(self, *, statistics: bool) -> Iterator[None]:
        """Hold the replica for one call; with `statistics`, running statistics may need a gradient."""
        with self._lock, running(self.replica, statistics=self._statistics and statistics):
            self._pairs.follow()
            yield

    def batched(self, inputs: Sequence[Inputs], values: Values) -> list[Any]:
        """Run several devices, each with its own inputs and its own values; differentiable.

        Args:
            inputs: Of each of B devices; they may be of unlike sizes.
            values: Update tensor -> (B, *shape).

        Returns:
            The output of each device, as the module gives it for that device alone.
        """
        self.adapter.check_values(values, devices=len(inputs))
        if self.mode == "loop":
            return self._loop(inputs, values)
        outputs: dict[int, Any] = {}
        for members in _alike(inputs):
            own = {name: value[members] for name, value in values.items()}
            try:
                found = self.in_mode(self.mode, [inputs[i] for i in members], own)
            except NotBatched:
                found = self._loop([inputs[i] for i in members], own)
            outputs |= dict(zip(members, found, strict=True))
        return [outputs[i] for i in range(len(inputs))]

    def in_mode(self, mode: Mode, inputs: Sequence[Inputs], values: Values) -> list[Any]:
        """Run devices with inputs of the same shapes in the given mode.

        Raises:
            NotBatched: This mode cannot run these.
        """
        if mode == "vmap":
            return self._vmapped(inputs, values)
        if mode == "fast":
            raise NotBatched("no fast path")
        return self._loop(inputs, values)

    def check(self, inputs: Sequence[Inputs]) -> CheckReport:
        """Establish on a real batch that updates act as they should, and which mode `batched` may use.

        Args:
            inputs: Of one device or several, as the module takes them.

        Returns:
            What was found; `mode` is set accordingly.

        Raises:
            CheckError: Base values change something, a target cannot reach the output, or the module is random.
        """
        report = check(self, inputs)
        self.mode = report.mode
        return report

    def _loop(self, inputs: Sequence[Inputs], values: Values) -> list[Any]:
        return [
            self.run(each, self.adapter.changed({name: value[i] for name, value in values.items()}))
            for i, each in enumerate(inputs)
        ]

    def _vmapped(self, inputs: Sequence[Inputs], values: Values) -> list[Any]:
        flat = [flatten(each) for each in inputs]
        leaves, rebuild = flat[0]
        if not all(map(is_plain, leaves)):
            raise NotBatched("an input is neither a tensor nor a plain value")
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        stacked = [torch.stack([own[i] for own, _ in flat]) for i in places]
        seen: list[Any] = []

        def one(tensors: list[Tensor], own: dict[str, Tensor]) -> list[Tensor]:
            filled = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            results, close = flatten(self.run(rebuild(filled), self.adapter.changed(own)))
            if not all(map(is_plain, results)):
                raise NotBatched("an output is neither a tensor nor a plain value")
            seen[:] = [[None if isinstance(each, Tensor) else each for each in results], close]
            seen.append([i for i, each in enumerate(results) if isinstance(each, Tensor)])
            return [results[i] for i in seen[2]]

        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # slower than a rule, and as right
        found = vmap(one, randomness="different")(stacked, dict(values))
        rest, close, at = seen
        outputs = []
        for device in range(len(inputs)):
            filled = list(rest)
            for place, tensor in zip(at, found, strict=True):
                filled[place] = tensor[device]
            outputs.append(close(filled))
        return outputs


_STATISTICS = (changes.MEAN, changes.VARIANCE)


def _alike(inputs: Sequence[Inputs]) -> list[list[int]]:
    """Groups of devices whose inputs can be stacked."""
    groups: dict[Any, list[int]] = {}
    for i, each in enumerate(inputs):
        groups.setdefault(signature(each), []).append(i)
    return list(groups.values())
