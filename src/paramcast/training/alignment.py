"""Alignment of normalization statistics, with strengths learned from devices that the base has not seen.

Re-estimating all statistics by one strength (AdaBN) harms where a layer's statistics carry what is asked
for, such as the direction of gravity in the inputs. The strengths are the same for all devices: two numbers
a layer, few enough to be learned from a dozen users. The device needs them, its own examples, and no label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.training import examples
from paramcast.training.baselines import FreeBaseline, norm_layers, restored
from paramcast.training.scores import Loss

STEPS = 60
DEVICES_A_STEP = 6
QUERIES = 48
RATE = 0.1
FIRST = 0.5
"""Strength of every layer before learning."""
DECAY = 0.003
"""Pulls the strengths of layers, as logits, to each other: without evidence there is one for all."""

Draw = Callable[[np.random.Generator], tuple[Any, Any, Any]]
"""Draws support inputs, query inputs and their labels; puts a base into the module that has not seen them."""


class LearnedAlignment(FreeBaseline):
    """Moves the running mean and variance of each layer towards the support set's, by strengths of its own.

    Args:
        strengths: Layer's name -> strengths (2,) of mean and variance, from 0 to 1.
    """

    name = "learned_alignment"

    def __init__(self, strengths: Mapping[str, Sequence[float]]) -> None:
        self.strengths = {name: (float(each[0]), float(each[1])) for name, each in strengths.items()}

    @classmethod
    def learn(cls, net: nn.Module, draw: Draw, loss: Loss, seed: int, steps: int = STEPS) -> LearnedAlignment:
        """Learn the strengths by gradient descent on the loss of query examples.

        Args:
            net: The module, frozen and in evaluation mode.
            draw: Gives an episode of one device.
            loss: Of outputs and labels.
            seed: Of the episodes.
            steps: Optimizer steps.
        """
        names = _names(net)
        logits = nn.Parameter(torch.full((len(names), 2), float(np.log(FIRST / (1 - FIRST)))))
        optimizer = torch.optim.Adam([logits], RATE)
        rng = np.random.default_rng(seed)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(DECAY * (logits - logits.mean()).square().mean())
            for _ in range(DEVICES_A_STEP):
                support, query, labels = draw(rng)
                strengths = dict(zip(names, logits.sigmoid(), strict=True))
                statistics = _mixed(net, support, strengths)
                with _normalizing(net, statistics):
                    value = loss(examples.call(net, query), labels) / DEVICES_A_STEP
                torch.autograd.backward(value)  # before the next draw, which may put another base there
            optimizer.step()
        return cls(dict(zip(names, logits.detach().sigmoid().tolist(), strict=True)))

    def fits(self, module: nn.Module, outputs: Any) -> bool:
        """Tell whether the module has the layers."""
        return bool(self.strengths) and set(self.strengths) == set(_names(module))

    def outputs(self, module: nn.Module, support: Any, query: Any, strength: float = 1.0) -> Any:
        """Run the query set under mixed statistics, and put the old ones back."""
        with restored(module):
            self.learn_statistics(module, support, strength)
            return examples.call(module, query)

    def learn_statistics(self, module: nn.Module, support: Any, strength: float = 1.0) -> None:
        """Move the running statistics of a module in evaluation mode towards the support set's."""
        scaled = {
            name: torch.tensor([strength * each for each in pair]) for name, pair in self.strengths.items()
        }
        with torch.no_grad():
            for name, (mean, variance) in _mixed(module, support, scaled).items():
                layer = module.get_submodule(name)
                layer.get_buffer("running_mean").copy_(mean)
                layer.get_buffer("running_var").copy_(variance)


Statistics = dict[str, tuple[Tensor, Tensor]]


def _names(net: nn.Module) -> list[str]:
    layers = {id(layer) for layer in norm_layers(net)}
    return [name for name, part in net.named_modules() if id(part) in layers]


def _mixed(net: nn.Module, support: Any, strengths: Mapping[str, Tensor]) -> Statistics:
    """Compute each layer's mixed statistics, the layers before it being aligned already; differentiable."""
    found: Statistics = {}

    def hook_of(name: str, strength: Tensor) -> Callable[..., Tensor]:
        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            axes = [0, *range(2, x.dim())]
            at = strength.to(x.device)
            mean = layer.running_mean + at[0] * (x.mean(axes) - layer.running_mean)
            variance = layer.running_var + at[1] * (x.var(axes) - layer.running_var)
            found[name] = mean, variance
            return _normalized(layer, x, mean, variance)

        return hook

    with _hooked(net, {name: hook_of(name, strength) for name, strength in strengths.items()}):
        examples.call(net, support)
    return found


@contextmanager
def _normalizing(net: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Normalize by other statistics while the block runs; they may need a gradient."""

    def hook_of(mean: Tensor, variance: Tensor) -> Callable[..., Tensor]:
        return lambda layer, inputs, output: _normalized(layer, inputs[0], mean, variance)

    with _hooked(net, {name: hook_of(*each) for name, each in statistics.items()}):
        yield


def _normalized(layer: Any, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight
    y: Tensor = (x - mean.reshape(shape)) * scale.reshape(shape)
    return y if layer.bias is None else y + layer.bias.reshape(shape)


@contextmanager
def _hooked(net: nn.Module, hooks: Mapping[str, Callable[..., Tensor]]) -> Iterator[None]:
    handles = [net.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
