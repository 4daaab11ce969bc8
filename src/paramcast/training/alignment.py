"""Alignment of normalization statistics, with strengths learned from devices that the base has not seen.

Re-estimating all statistics with the same strength (AdaBN) harms where the statistics of a layer carry what
the labels depend on, such as the direction of gravity in the inputs. The strengths are the same for all
devices. There are two numbers for each layer, so they can be learned from a dozen users. A device needs only
the strengths and its own examples, and no label.
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
"""Weight of a penalty on the spread of the strengths (as logits): without other evidence, all layers get
about the same strength."""

Draw = Callable[[np.random.Generator], tuple[Any, Any, Any]]
"""Draws support inputs, query inputs and query labels of one device, after it loads into the module the state
of a base that has not seen the device."""


class LearnedAlignment(FreeBaseline):
    """Moves each layer's running mean and variance towards those of the support set, with learned strengths.

    Args:
        strengths: Name of the layer -> strengths (2,) of mean and variance, from 0 to 1.
    """

    name = "learned_alignment"

    def __init__(self, strengths: Mapping[str, Sequence[float]]) -> None:
        self.strengths = {name: (float(each[0]), float(each[1])) for name, each in strengths.items()}

    @classmethod
    def learn(cls, net: nn.Module, draw: Draw, loss: Loss, seed: int, steps: int = STEPS) -> LearnedAlignment:
        """Learn the strengths by gradient descent on the loss of query examples.

        Args:
            net: The module, frozen and in evaluation mode.
            draw: Draws an episode of one device.
            loss: (outputs, labels) -> scalar tensor.
            seed: Seed of the episodes.
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
                torch.autograd.backward(value)  # before the next draw, which may load another base
            optimizer.step()
        return cls(dict(zip(names, logits.detach().sigmoid().tolist(), strict=True)))

    def fits(self, module: nn.Module, outputs: Any) -> bool:
        """Check whether the module has exactly the layers that have strengths."""
        return bool(self.strengths) and set(self.strengths) == set(_names(module))

    def outputs(self, module: nn.Module, support: Any, query: Any, strength: float = 1.0) -> Any:
        """Run the query set under the mixed statistics, and restore the old statistics."""
        with restored(module):
            self.learn_statistics(module, support, strength)
            return examples.call(module, query)

    def learn_statistics(self, module: nn.Module, support: Any, strength: float = 1.0) -> None:
        """Move the running statistics of a module in evaluation mode towards those of the support set."""
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
    """Compute each layer's mixed statistics, with all earlier layers already aligned; differentiable."""
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
    """Normalize by other statistics while the block runs; the statistics may need a gradient."""

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
