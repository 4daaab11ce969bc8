"""One of two workers that train together: `python team_run.py RANK FOLDER`; it prints its results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from paramcast.training.fitting import Schedule, fit
from paramcast.training.team import Team


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    team = Team.current()
    torch.manual_seed(rank)
    module = nn.Linear(3, 1)
    team.align(module)
    start = module.weight.tolist()
    module.weight.grad = torch.full((1, 3), float(rank))
    module.bias.grad = torch.ones(1) if rank else None
    team.average_gradients(module.parameters())
    told = {
        "start": start,
        "gradients": [*module.weight.grad.flatten().tolist(), *module.bias.grad.tolist()],
        "agreed": team.agreed(f"of {rank}"),
        "everyones": team.everyones(rank),
    }

    def loss(rng: np.random.Generator) -> torch.Tensor:
        """Compute a loss in which each worker lacks another one of the inputs."""
        inputs = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))
        inputs[:, rank] = 0
        return (module(inputs) - inputs @ torch.tensor([[1.0], [2.0], [3.0]])).square().mean()

    def score() -> float:
        return -float((module.weight - torch.tensor([[1.0, 2.0, 3.0]])).square().sum())

    schedule = Schedule(200, 50, rate=0.05, decay=0.0)
    best = fit("team", module, loss, score, schedule, 0, folder / "fit.safetensors", team=team)
    print(json.dumps(told | {"best": best, "weight": module.weight.flatten().tolist()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
