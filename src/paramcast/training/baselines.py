"""Free baselines: adaptation on the device alone, without labels, a server or back-propagation.

Each baseline has one strength. It is chosen on devices that the base has not seen, never on test devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from paramcast.training import examples
from paramcast.training.scores import primary, with_primary

STRENGTHS = (0.25, 0.5, 1.0)
"""Candidates for the strength: shares of the way from the training statistics to the device's statistics."""


class FreeBaseline(ABC):
    """A way to adapt without labels or a server."""

    name: str

    @abstractmethod
    def fits(self, module: nn.Module, outputs: Any) -> bool:
        """Check whether the method can be used with this module."""

    @abstractmethod
    def outputs(self, module: nn.Module, support: Any, query: Any, strength: float) -> Any:
        """Return the module's outputs for the query examples, adapted by the support examples."""


class ReestimatedStatistics(FreeBaseline):
    """Re-estimates the statistics of batch normalization on the support set (AdaBN, Li et al., 2017)."""

    name = "norm_statistics"

    def fits(self, module: nn.Module, outputs: Any) -> bool:
        """Check whether a normalization layer keeps running statistics."""
        return bool(norm_layers(module))

    def outputs(self, module: nn.Module, support: Any, query: Any, strength: float) -> Any:
        """Run the query set under the mixed statistics, and restore the old statistics."""
        with restored(module):
            self.learn_statistics(module, support, strength)
            return examples.call(module, query)

    def learn_statistics(self, module: nn.Module, support: Any, strength: float) -> None:
        """Move the running statistics of a module in evaluation mode towards those of the support set."""
        layers = norm_layers(module)
        momenta = [layer.momentum for layer in layers]
        try:
            for layer in layers:
                layer.momentum = strength
                layer.train()
            examples.call(module, support)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
                layer.eval()


class MeanRemoval(FreeBaseline):
    """Shifts the features before the last linear layer, so that their device mean nears the training mean."""

    name = "mean_removal"

    def __init__(self) -> None:
        self._head: nn.Linear | None = None
        self._mean: Tensor | None = None

    def learn(self, module: nn.Module, batches: Sequence[Any]) -> None:
        """Compute and keep the mean of the training examples' features before the last linear layer."""
        linear = [part for part in module.modules() if type(part) is nn.Linear]
        seen: list[tuple[nn.Linear, Tensor]] = []
        handles = [
            part.register_forward_pre_hook(lambda part, inputs: seen.append((part, inputs[0].detach())))
            for part in linear
        ]
        means = []
        try:
            with torch.no_grad():
                for batch in batches:
                    seen.clear()
                    examples.call(module, batch)
                    if not seen or seen[-1][1].dim() != 2:
                        return
                    means.append(seen[-1][1].mean(0))
        finally:
            for handle in handles:
                handle.remove()
        if means and all(len(mean) == len(means[0]) for mean in means):
            self._head, self._mean = seen[-1][0], torch.stack(means).mean(0)

    @property
    def learned(self) -> list[float]:
        """The training mean, as numbers for a file."""
        assert self._mean is not None
        return [float(value) for value in self._mean]

    def restore(self, module: nn.Module, mean: Tensor) -> None:
        """Set the training mean to the numbers of `learned`, for the last linear layer of that width."""
        linear = [
            part for part in module.modules() if type(part) is nn.Linear and part.in_features == len(mean)
        ]
        self._head, self._mean = linear[-1], mean.to(linear[-1].weight.device)

    def fits(self, module: nn.Module, outputs: Any) -> bool:
        """Check whether `learn` found a last linear layer with inputs (N, F)."""
        return self._head is not None

    def outputs(self, module: nn.Module, support: Any, query: Any, strength: float) -> Any:
        """Run the query set with its features moved by `shift`."""
        assert self._head is not None
        shift = self.shift(module, support, strength)
        handle = self._head.register_forward_pre_hook(
            lambda part, inputs: (inputs[0] - shift.to(inputs[0].dtype), *inputs[1:])
        )
        try:
            return examples.call(module, query)
        finally:
            handle.remove()

    def shift(self, module: nn.Module, support: Any, strength: float) -> Tensor:
        """Compute strength * (mean features of the support set - training mean): (F,)."""
        assert self._head is not None
        assert self._mean is not None
        kept: list[Tensor] = []
        handle = self._head.register_forward_pre_hook(lambda part, inputs: kept.append(inputs[0].mean(0)))
        try:
            examples.call(module, support)
        finally:
            handle.remove()
        return strength * (kept[-1] - self._mean)


class PriorCorrection(FreeBaseline):
    """Re-estimates the frequencies of classes by expectation maximization (Saerens et al., 2002)."""

    name = "prior_correction"
    rounds = 20

    def __init__(self) -> None:
        self.prior: Tensor | None = None

    def fits(self, module: nn.Module, outputs: Any) -> bool:
        """Check whether the outputs are logits (N, C) of the classes of the prior."""
        return (
            self.prior is not None
            and primary(outputs).dim() == 2
            and primary(outputs).shape[1] == len(self.prior)
        )

    def outputs(self, module: nn.Module, support: Any, query: Any, strength: float) -> Any:
        """Compute the logits of the query set, corrected by the estimated ratio of priors."""
        outputs = examples.call(module, query)
        corrected = primary(outputs).float() + self.correction(module, support, strength)
        return with_primary(outputs, corrected)

    def correction(self, module: nn.Module, support: Any, strength: float) -> Tensor:
        """Compute the correction that is added to the logits: (C,)."""
        assert self.prior is not None
        seen = primary(examples.call(module, support)).float().softmax(-1)
        current = self.prior.clone()
        for _ in range(self.rounds):
            posterior = seen * (current / self.prior)
            current = (posterior / posterior.sum(-1, keepdim=True)).mean(0)
            current = 0.9 * current + 0.1 * self.prior  # a few examples must not rule a class out
        return strength * (current / self.prior).log()


def norm_layers(module: nn.Module) -> list[Any]:
    """Find the normalization layers that keep running statistics."""
    return [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm)
        and part.running_mean is not None
    ]


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Put all buffers back after the block."""
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])
