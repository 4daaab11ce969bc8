"""Cost of work on a device: multiply-accumulates, and the peak of memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_ATTENTION = {  # torch's table lacks attention on CPUs; the arguments are shapes
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *more, **named: sdpa_flop_count(q, k, v)  # type: ignore[no-untyped-call]
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda made, q, k, v, *more, **named: sdpa_backward_flop_count(made, q, k, v)  # type: ignore[no-untyped-call]
    ),
}

_COUNTED: ContextVar[bool] = ContextVar("counted", default=True)


@dataclass(frozen=True)
class Work:
    """Cost of some work.

    Attributes:
        macs: Multiply-accumulates of matrix products and convolutions, backward passes included.
        peak_bytes: Peak of the bytes of the tensors that the work makes: activations, gradients, the
            moments of the optimizer.
    """

    macs: int = 0
    peak_bytes: int = 0


def measure(work: Callable[[], object]) -> Work:
    """Do some work and count its cost; the temporary memory inside an operation is not counted."""
    with _Storages() as storages, FlopCounterMode(display=False, custom_mapping=_ATTENTION) as flops:
        work()
    return Work(flops.get_total_flops() // 2, storages.peak)


@contextmanager
def uncounted() -> Iterator[None]:
    """Exclude the tensors that are made here from the count, such as copies that only a simulation needs."""
    before = _COUNTED.set(False)
    try:
        yield
    finally:
        _COUNTED.reset(before)


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage that an operation makes, until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count the storages that it makes."""
        for given in _storages((args, kwargs)):
            self._follow(given, 0)
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            self._follow(storage, storage.nbytes() if _COUNTED.get() else 0)
        self.peak = max(self.peak, self.now)
        return made

    def _follow(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)
        if key in self._known:
            return

        def gone(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
        self.now += size


def _storages(tree: object) -> Iterator[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
