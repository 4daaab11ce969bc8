"""A module that runs under updates: one device as the definition says, or many devices in one batch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.hooks import RemovableHandle

from paramcast.adapters import fast
from paramcast.adapters.base import Adapter, Values
from paramcast.adapters.checking import CheckReport, check
from paramcast.adapters.errors import TargetError
from paramcast.adapters.replica import Pairs, make_replica, running
from paramcast.adapters.targets import refuse_scripted
from paramcast.adapters.trees import Inputs, arguments, flatten, is_plain, signature
from paramcast.protocol import changes

Mode = Literal["fast", "vmap", "loop"]


class NotBatched(Exception):
    """Devices cannot be run in one batch in this mode."""


class AdaptedModule:
    """A module that runs with the parameters of one device or of several devices.

    It works on a replica over the same parameters and buffers, always in evaluation mode. The user's module
    gets no hooks, keeps its training mode, and can be pickled, copied, scripted and compiled as before.
    `torch.func.functional_call` with the changed targets defines what an update does. Calls from several
    threads wait for each other.

    Attributes:
        module: The user's module.
        adapter: The adapter; it defines which targets an update changes, and how.
        replica: The module that runs.
        mode: How `batched` runs several devices: 'loop' until `check` has found that another mode gives the
            same outputs.
    """

    def __init__(self, module: nn.Module, adapter: Adapter) -> None:
        refuse_scripted(module)
        self.module, self.adapter = module, adapter
        self.replica = make_replica(module)
        self.mode: Mode = "loop"
        self._pairs = Pairs(module, self.replica)
        self._lock = threading.RLock()
        self._used: Values | None = None
        self._layers = fast.layers_of(self.replica, adapter)
        self._statistics = any(name.rpartition(".")[2] in _STATISTICS for name in adapter.targets)

    def __call__(self, inputs: Inputs, values: Values | None = None) -> Any:
        """Run one device.

        Args:
            inputs: One tensor, a tuple (positional arguments) or a mapping (keyword arguments).
            values: Tensors of an update without a device axis; None is the base.

        Returns:
            The output of the module.

        Raises:
            ValuesError: The values are not exactly an update's tensors, or not finite.
        """
        if values is None:
            return self.run(inputs, None)
        self.adapter.check_values(values)
        return self.run(inputs, self.adapter.changed(values))

    def run(self, inputs: Inputs, targets: Values | None) -> Any:
        """Run the module with the given values of the targets; None is the base.

        This is the definition of what an update does.
        """
        args, kwargs = arguments(inputs)
        with self.calling(statistics=targets is not None):
            return functional_call(self.replica, dict(targets or {}), args, kwargs, tie_weights=True)

    @contextmanager
    def calling(self, *, statistics: bool) -> Iterator[None]:
        """Hold the replica for one call.

        Args:
            statistics: Whether running statistics may need a gradient.
        """
        with self._lock, running(self.replica, statistics=self._statistics and statistics):
            self._pairs.follow()
            used, self._used = self._used, None
            try:
                yield
            finally:
                self._used = used

    def batched(self, inputs: Sequence[Inputs], values: Values) -> list[Any]:
        """Run several devices, each with its own inputs and its own values; differentiable.

        Args:
            inputs: Inputs of each of B devices; they may have different sizes.
            values: Update tensor -> (B, *shape).

        Returns:
            The output for each device, equal to the module's output for that device alone.
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
            NotBatched: This mode cannot run these devices in one batch.
        """
        if mode == "vmap":
            return self._vmapped(inputs, values)
        if mode == "fast":
            return self._concatenated(inputs, values)
        return self._loop(inputs, values)

    @contextmanager
    def use(self, values: Values | None) -> Iterator[nn.Module]:
        """Run the replica under `values`, for code that calls its submodules itself.

        Every layer that holds a target must be a Linear, LayerNorm or convolution of torch. The inputs of
        these layers must be device-major: the length of the first axis is a multiple of B, and the rows of a
        device are adjacent. Other threads wait.

        Args:
            values: Update tensor -> (B, *shape), or (*shape) for all rows; None is the base.

        Yields:
            The replica; it has hooks only within this context.

        Raises:
            ValuesError: The values do not fit the adapter.
            TargetError: A target is in a layer of another class.
        """
        if values is not None and torch._C._get_tracing_state() is None:
            self.adapter.check_values(values, devices=fast.devices_of(self.adapter, values))
        with self._lock:
            self._pairs.follow()
            before, self._used = self._used, values
            hooks = [] if values is None or before is not None else self._add_hooks()
            try:
                yield self.replica
            finally:
                self._used = before
                for hook in hooks:
                    hook.remove()

    def _add_hooks(self) -> list[RemovableHandle]:
        if self._layers is None:
            raise TargetError(
                "some targets are not in a Linear, LayerNorm or convolution with torch's own "
                "forward; call the adapted module as a whole instead of its parts"
            )

        def hook_of(layer: fast.Layer) -> Callable[..., Tensor | None]:
            def hook(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor
            ) -> Tensor | None:
                if self._used is None:
                    return None
                x = args[0] if args else kwargs["input"]
                return fast.edited(layer, self.adapter, x, y, self.adapter.renamed(self._used))

            return hook

        return [
            layer.module.register_forward_hook(hook_of(layer), with_kwargs=True) for layer in self._layers
        ]

    def _concatenated(self, inputs: Sequence[Inputs], values: Values) -> list[Any]:
        if self._layers is None:
            raise NotBatched("some targets are not in a layer of a class with a fast path")
        flat = [flatten(each) for each in inputs]
        leaves, rebuild = flat[0]
        together = [
            torch.cat([own[i] for own, _ in flat]) if isinstance(leaf, Tensor) else leaf
            for i, leaf in enumerate(leaves)
        ]
        args, kwargs = arguments(rebuild(together))
        with self.use(values), running(self.replica, statistics=False):
            results, close = flatten(self.replica(*args, **kwargs))
        if not all(map(is_plain, results)) or any(
            isinstance(each, Tensor) and (not each.dim() or each.shape[0] % len(inputs)) for each in results
        ):
            raise NotBatched("an output has no rows to separate by device")
        return [
            close(
                [
                    fast.by_device(each, len(inputs))[device] if isinstance(each, Tensor) else each
                    for each in results
                ]
            )
            for device in range(len(inputs))
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> AdaptedModule:
        """Make another adapted module over the same module, with a copy of the adapter."""
        twin = AdaptedModule(self.module, copy.deepcopy(self.adapter, memo))
        twin.mode = self.mode
        return twin

    def check(self, inputs: Sequence[Inputs]) -> CheckReport:
        """Check on a real batch that updates act as defined, and choose the mode that `batched` uses.

        Args:
            inputs: Inputs of one device or several, as the module takes them.

        Returns:
            The results of the check; `mode` is set to the mode of the report.

        Raises:
            CheckError: Base values change the output, a target cannot reach the output, or the module is
                random.
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

        # The fallback is slower than a rule of vmap, and gives the same result.
        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]
        # Under vmap, torch chooses a CPU's fused kernel for a mask that needs a gradient, although the kernel
        # cannot compute it.
        with sdpa_kernel(SDPBackend.MATH):
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
    """Group the devices whose inputs can be stacked, as lists of indices."""
    groups: dict[Any, list[int]] = {}
    for i, each in enumerate(inputs):
        groups.setdefault(signature(each), []).append(i)
    return list(groups.values())
