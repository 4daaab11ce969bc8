"""Second module over the same parameters, so that the user's module is never changed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from paramcast.adapters.errors import TargetError
from paramcast.adapters.targets import COMPILED, original, plain_name


def make_replica(module: nn.Module) -> nn.Module:
    """Copy a module's structure, in evaluation mode, over the same parameters and buffers.

    Of a module of `torch.compile`, the module that was compiled is copied. Gradient checkpointing is switched
    off: in the backward pass it would compute again with the base's parameters.

    Raises:
        TargetError: The module cannot be copied.
    """
    memo: dict[int, Any] = {id(each): each for each in [*module.parameters(), *module.buffers()]}
    for each in module.modules():
        for value in vars(each).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # a weight that a hook computes
                memo[id(value)] = value.detach()
    try:
        for each in reversed(list(module.modules())):
            if COMPILED in each._modules:
                memo[id(each)] = copy.deepcopy(original(each), memo)
        replica: nn.Module = copy.deepcopy(original(module), memo)
    except Exception as error:  # the user's __deepcopy__ or attributes may raise any error
        raise TargetError(
            f"{type(module).__name__} cannot be copied, but adaptation needs a copy: {error}; keep "
            "objects that cannot be copied (locks, files, generators) outside the module"
        ) from error
    for each in replica.modules():
        for flag in ("gradient_checkpointing", "grad_checkpointing"):
            if getattr(each, flag, False) is True:
                setattr(each, flag, False)
        each.training = False
    return replica


class Pairs:
    """Pairs of the replica's modules and the user's modules, to copy replaced parameters and buffers."""

    def __init__(self, module: nn.Module, replica: nn.Module) -> None:
        mine = dict(replica.named_modules())
        theirs = {plain_name(name): each for name, each in module.named_modules()}
        self._pairs = [(each, theirs[name]) for name, each in mine.items() if name in theirs]

    def follow(self) -> None:
        """Take over the present parameters and buffers of the user's module, as after a move to a GPU."""
        for mine, theirs in self._pairs:
            theirs = original(theirs)
            for own, others in (
                (mine._parameters, theirs._parameters),
                (mine._buffers, theirs._buffers),
            ):
                for name, tensor in others.items():
                    if name in own and own[name] is not tensor:
                        own[name] = tensor
                        if isinstance(mine, nn.RNNBase):
                            mine._init_flat_weights()


@contextmanager
def running(replica: nn.Module, *, statistics: bool) -> Iterator[None]:
    """Run a replica so that every parameter may be replaced and differentiated.

    Args:
        replica: The replica, in evaluation mode.
        statistics: Whether running statistics need a gradient.
    """
    with ExitStack() as stack:
        stack.enter_context(_plain_attention())
        if statistics:
            stack.enter_context(_DifferentiableStatistics())
        if any(isinstance(each, nn.RNNBase) for each in replica.modules()) and torch.cuda.is_available():
            # cuDNN's backward pass of recurrent layers requires training mode.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


_fast_attention = threading.Lock()
_slowed, _before = 0, True


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Switch off the fused attention of evaluation mode, which has no vmap rule and rounds differently.

    The switch belongs to the whole process: the last of several threads restores it.
    """
    global _slowed, _before
    with _fast_attention:
        if _slowed == 0:
            _before = torch.backends.mha.get_fastpath_enabled()
        _slowed += 1
        torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        with _fast_attention:
            _slowed -= 1
            if _slowed == 0:
                torch.backends.mha.set_fastpath_enabled(_before)


class _DifferentiableStatistics(TorchFunctionMode):
    """Normalization by running statistics with a gradient for them; torch's operation gives them none."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in _SIGNATURES:
            given = dict(zip(_SIGNATURES[function], args, strict=False)) | kwargs
            mean, variance = given.get("running_mean"), given.get("running_var")
            by_batch = given.get("training", given.get("use_input_stats", False))
            if mean is not None and variance is not None and not by_batch:
                return _normalized(given["input"], mean, variance, given)
        return function(*args, **kwargs)


def _normalized(x: Tensor, mean: Tensor, variance: Tensor, given: dict[str, Any]) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    wide = torch.promote_types(x.dtype, torch.float32)
    scale = torch.rsqrt(variance.to(wide) + given.get("eps", 1e-5))
    if given.get("weight") is not None:
        scale = scale * given["weight"].to(wide)
    y = (x.to(wide) - mean.to(wide).reshape(shape)) * scale.reshape(shape)
    if given.get("bias") is not None:
        y = y + given["bias"].to(wide).reshape(shape)
    return y.to(x.dtype)


_SIGNATURES: dict[Any, tuple[str, ...]] = {
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: (
        "input",
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "training",
        "momentum",
        "eps",
    ),
    F.instance_norm: (
        "input",
        "running_mean",
        "running_var",
        "weight",
        "bias",
        "use_input_stats",
        "momentum",
        "eps",
    ),
    torch.instance_norm: (
        "input",
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "use_input_stats",
        "momentum",
        "eps",
    ),
}
"""Function -> names of its parameters, in order."""
