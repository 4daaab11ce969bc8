"""Workers that train one model together, each on a share of the clips and of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed as dist
from torch import nn

from paramcast.training.seeding import seed_from

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """One process's place among those that train together, over the process group of torch.distributed.

    What several do is in expectation what one does: a step's batch is shared out, and gradients are averaged.

    Attributes:
        rank: Of this process, in [0, size); that of rank 0 writes the files.
        size: How many there are; alone, nothing is sent.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """That of the process group, if there is one."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def has(self, clip_id: str) -> bool:
        """Whether a training clip is this worker's."""
        return self.size == 1 or seed_from("worker", clip_id) % self.size == self.rank

    def part(self, count: int) -> int:
        """This worker's part of `count` things, at least one."""
        return max(1, count // self.size)

    def agreed(self, value: T) -> T:
        """What worker 0 has, for all."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def everyones(self, value: T) -> list[T]:
        """What each worker has, by rank."""
        if self.size == 1:
            return [value]
        held: list[T] = [value] * self.size
        dist.all_gather_object(held, value)
        return held

    def align(self, module: nn.Module) -> None:
        """Give all workers the state of worker 0's module."""
        if self.size > 1:
            module.load_state_dict(self.agreed(module.state_dict()))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set gradients to their means over the workers; where one has none, it counts as zero."""
        if self.size == 1:
            return
        trained = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
        dist.all_reduce(flat)
        means = torch.split(flat / self.size, [p.numel() for p in trained])
        for parameter, mean in zip(trained, means, strict=True):
            parameter.grad = mean.view_as(parameter)


ALONE = Team()
