"""Workers that train one model together, each on a part of the clips and of every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed as dist
from torch import nn

from paramcast.training.parallel import run_in_turn, run_parallel
from paramcast.training.seeding import seed_from

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The rank of a process among the processes that train together, in torch.distributed's process group.

    In expectation, several workers do the same as one: each step's batch is divided, and gradients are
    averaged.

    Attributes:
        rank: Rank of this process, in [0, size); rank 0 writes the files.
        size: Number of processes; with one process, nothing is sent.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """Return the team of the present process group; without a group, a team of one."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def has(self, clip_id: str) -> bool:
        """Check whether a training clip belongs to this worker."""
        return self.size == 1 or seed_from("worker", clip_id) % self.size == self.rank

    def part(self, count: int) -> int:
        """Return this worker's part of a number, at least 1."""
        return max(1, count // self.size)

    def agreed(self, value: T) -> T:
        """Return worker 0's value to all workers; all must call this."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def everyones(self, value: T) -> list[T]:
        """Return the values of all workers in the order of their ranks; all must call this."""
        if self.size == 1:
            return [value]
        held: list[T] = [value] * self.size
        dist.all_gather_object(held, value)
        return held

    def align(self, module: nn.Module) -> None:
        """Give all workers the state of worker 0's module."""
        if self.size > 1:
            module.load_state_dict(self.agreed(module.state_dict()))

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run jobs in parallel processes; in a team one after another, as all workers meet in each job."""
        return run_parallel(jobs) if self.size == 1 else run_in_turn(jobs)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set gradients to their means over the workers; a missing gradient counts as zero."""
        if self.size == 1:
            return
        trained = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
        dist.all_reduce(flat)
        means = torch.split(flat / self.size, [p.numel() for p in trained])
        for parameter, mean in zip(trained, means, strict=True):
            parameter.grad = mean.view_as(parameter)


ALONE = Team()
