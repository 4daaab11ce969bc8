"""Describers: they compute the features of an example on the device, from the base model.

A describer watches one forward pass of the base module, so that the device's graph gives outputs and features
together, or it is a torch module beside the net. All describers return (N, F) float32, or (N, T, F) where an
example has T parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paramcast.errors import InputError
from paramcast.training import examples
from paramcast.training.scores import primary

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
)
_MOST_RAW = 1024
"""Input vectors up to this length are used as features. Longer vectors are described by statistics."""
_MOST_PAIRED = 16
"""Signals of at most this number of channels are also described by the correlations of their channels."""


class Describer(ABC):
    """Computes the features of examples from one forward pass of the base module."""

    @abstractmethod
    def prepare(self, module: nn.Module, inputs: Any) -> None:
        """Learn the layout of the features from one batch of real examples."""

    @abstractmethod
    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call the module; return its outputs and the features."""

    def config(self) -> dict[str, Any]:
        """Return the data of the describer that a model's folder keeps, as JSON types."""
        return {"kind": type(self).__name__}

    def restore(self, config: dict[str, Any]) -> None:  # noqa: B027  # most have nothing to restore
        """Restore the describer from the result of `config` that was saved with the model."""


class BesideDescriber(Describer):
    """Runs a separate torch module on the same inputs.

    Args:
        describe: Called like the user's module; returns (N, F) or (N, T, F) floats.
    """

    def __init__(self, describe: nn.Module) -> None:
        self.describe = describe.eval()

    def prepare(self, module: nn.Module, inputs: Any) -> None:
        """Check the shape of the features."""
        with torch.no_grad():
            features = examples.call(self.describe, inputs)
        if (
            not isinstance(features, Tensor)
            or features.dim() not in (2, 3)
            or len(features) != examples.count(inputs)
        ):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(
                f"the context module must return (N, F) or (N, T, F) features; it returns {shape}"
            )

    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call both modules."""
        return examples.call(module, inputs), examples.call(self.describe, inputs).float()


class TapDescriber(Describer):
    """Takes the output of a named submodule, pooled over all axes but examples and features.

    Args:
        name: Dotted name of the submodule.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._layout = _Layout()

    def prepare(self, module: nn.Module, inputs: Any) -> None:
        """Check that the submodule exists and is called, and learn the layout of its output."""
        part = _named(module, self.name)
        with torch.no_grad(), _watched({self.name: part}, before=False) as seen:
            examples.call(module, inputs)
        if self.name not in seen:
            raise InputError(f"context: submodule {self.name!r} is not called in the module's forward")
        self._layout.learn(part, primary(seen[self.name]), examples.count(inputs), self.name)

    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call the module under a hook that is removed afterwards."""
        with _watched({self.name: _named(module, self.name)}, before=False) as seen:
            outputs = examples.call(module, inputs)
        return outputs, self._layout.pooled(primary(seen[self.name]))

    def config(self) -> dict[str, Any]:
        """Return the name and the layout."""
        return {"kind": "TapDescriber", "name": self.name, "layout": self._layout.config()}

    def restore(self, config: dict[str, Any]) -> None:
        """Restore the layout."""
        self._layout = _Layout(**config["layout"])


class DefaultDescriber(Describer):
    """Features: statistics of the inputs, the inputs of the last layer, and the outputs.

    The statistics show how a sensor is mounted or scaled. The last layer's inputs and the outputs show how
    the module represents the example.
    """

    def __init__(self) -> None:
        self._head = ""
        self._layout = _Layout()
        self._axes: list[int | None] = []
        self._outputs = True

    def prepare(self, module: nn.Module, inputs: Any) -> None:
        """Find the last layer and channel axes, and check whether each output describes a single example."""
        count = examples.count(inputs)
        leaves = {
            n: m for n, m in module.named_modules() if not [*m.children()] and [*m.parameters(recurse=False)]
        }
        with torch.no_grad(), _watched(leaves, before=True) as seen:
            whole = primary(examples.call(module, inputs))
        with torch.no_grad():
            less = primary(examples.call(module, examples.take(inputs, slice(0, max(1, count - 1)))))
        # A module with two towers gives each example one output per other example: these describe the batch.
        self._outputs = whole.dim() == 2 and len(whole) == count and whole.shape[1:] == less.shape[1:]
        linear = [name for name in seen if isinstance(leaves[name], nn.Linear)]
        self._head = (linear or list(seen) or [""])[-1]
        if self._head:
            try:
                self._layout.learn(leaves[self._head], seen[self._head], count, self._head)
            except InputError:  # its rows are not the examples, so only inputs and outputs describe them
                self._head = ""
        self._axes = [_channel_axis(leaf) for leaf in pytree.tree_leaves(inputs)]

    def run(self, module: nn.Module, inputs: Any) -> tuple[Any, Tensor]:
        """Call the module under a hook that is removed afterwards."""
        heads = {self._head: _named(module, self._head)} if self._head else {}
        with _watched(heads, before=True) as seen:
            outputs = examples.call(module, inputs)
        parts = [
            _statistics(leaf.float(), axis)
            for leaf, axis in zip(pytree.tree_leaves(inputs), self._axes, strict=True)
            if axis is not None
        ]
        if self._head:
            parts.append(self._layout.pooled(seen[self._head]))
        if self._outputs:
            made = primary(outputs).float()
            parts.append(made.softmax(-1) if made.shape[1] > 1 else made)
        if not parts:
            raise InputError("the module has neither float inputs nor layers to describe; give context=")
        return outputs, torch.cat(parts, -1)

    def config(self) -> dict[str, Any]:
        """Return the last layer's name and the layouts."""
        return {
            "kind": "DefaultDescriber",
            "head": self._head,
            "axes": self._axes,
            "outputs": self._outputs,
            "layout": self._layout.config(),
        }

    def restore(self, config: dict[str, Any]) -> None:
        """Restore the last layer's name and the layouts."""
        self._head, self._axes, self._outputs = config["head"], config["axes"], config["outputs"]
        self._layout = _Layout(**config["layout"])


class _Layout:
    """The axes of examples and features in a watched tensor."""

    def __init__(self, time_first: bool = False, channel: int = -1) -> None:
        self.time_first, self.channel = time_first, channel

    def config(self) -> dict[str, Any]:
        """Return the layout as JSON types."""
        return {"time_first": self.time_first, "channel": self.channel}

    def learn(self, part: nn.Module, value: Tensor, count: int, name: str) -> None:
        """Find the axes of the examples and of the channels.

        Raises:
            InputError: Neither of the first two axes holds the examples.
        """
        if len(value) != count and value.dim() > 2 and value.shape[1] == count:
            self.time_first = True
        elif len(value) != count:
            raise InputError(
                f"context: submodule {name!r} gives {tuple(value.shape)} for {count} examples; "
                "choose one whose first axis holds the examples"
            )
        leaves = [m for m in part.modules() if not [*m.children()] and [*m.parameters(recurse=False)]]
        convolutional = bool(leaves) and isinstance(leaves[-1], _CHANNELS_FIRST)
        self.channel = 1 if convolutional and value.dim() > 2 and not self.time_first else value.dim() - 1

    def pooled(self, value: Tensor) -> Tensor:
        """Pool to (N, F): the tensor itself, or the mean and standard deviation over its inner axes."""
        value = value.float()
        if value.dim() == 2:
            return value
        value = value.transpose(0, 1) if self.time_first else value
        flat = value.movedim(self.channel, -1).flatten(1, -2)
        mean = flat.mean(1)
        return torch.cat([mean, ((flat - mean[:, None]).square().mean(1) + 1e-8).sqrt()], -1)


def _channel_axis(leaf: Tensor) -> int | None:
    """Find the channel axis of an input; None for integers other than uint8, such as tokens."""
    if not (leaf.is_floating_point() or leaf.dtype == torch.uint8):
        return None
    if leaf.dim() <= 2:
        return leaf.dim() - 1
    if leaf.dim() == 3:
        return 1 if leaf.shape[1] <= leaf.shape[2] else 2
    return leaf.dim() - 1 if leaf.shape[-1] <= 4 < leaf.shape[1] else 1


def _statistics(x: Tensor, channel: int) -> Tensor:
    """Describe inputs (N, ...) by (N, F): raw values of short vectors, else statistics of each channel.

    The statistics are mean, deviation and roughness (the mean absolute difference of neighboring values). If
    there are few channels, their correlations follow.
    """
    if x.dim() == 1:
        return x[:, None]
    if x.dim() == 2 and x.shape[1] <= _MOST_RAW:
        return x
    flat = x[:, None] if x.dim() == 2 else x.movedim(channel, 1).flatten(2)  # (N, C, L)
    mean = flat.mean(-1)
    centered = flat - mean[..., None]
    deviation = (centered.square().mean(-1) + 1e-8).sqrt()
    parts = [mean, deviation, (flat[..., 1:] - flat[..., :-1]).abs().mean(-1)]
    channels = flat.shape[1]
    if 1 < channels <= _MOST_PAIRED:
        scaled = centered / deviation[..., None]
        correlation = scaled @ scaled.transpose(1, 2) / flat.shape[-1]
        upper = torch.triu_indices(channels, channels, 1)
        parts.append(correlation.flatten(1)[:, upper[0] * channels + upper[1]])
    return torch.cat(parts, -1)


@contextmanager
def _watched(parts: dict[str, nn.Module], *, before: bool) -> Iterator[dict[str, Any]]:
    """Record the first input (`before`) or the output of submodules while the block runs, in call order.

    The hooks are removed when the block ends.
    """
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(part: nn.Module, inputs: tuple[Any, ...], *output: Any) -> None:
            value = inputs[0] if before and inputs else output[0] if output else None
            if not before or isinstance(value, Tensor):
                seen.pop(name, None)
                seen[name] = value

        return hook

    handles = [
        part.register_forward_pre_hook(keep(name)) if before else part.register_forward_hook(keep(name))
        for name, part in parts.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _named(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(name for name, _ in module.named_children())
        raise InputError(f"context: the module has no submodule {name!r}; its parts are: {known}") from error


def make_describer(context: str | nn.Module | Describer | None) -> Describer:
    """Return the describer that `context` stands for.

    Args:
        context: A submodule's dotted name, a torch module, a describer, or None for the default.

    Raises:
        InputError: Anything else.
    """
    if context is None:
        return DefaultDescriber()
    if isinstance(context, str):
        return TapDescriber(context)
    if isinstance(context, Describer):
        return context
    if isinstance(context, nn.Module):
        return BesideDescriber(context)
    raise InputError("context= is a submodule's name or a torch module; a plain function cannot be exported")
