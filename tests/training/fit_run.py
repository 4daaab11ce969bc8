"""A training run that a test kills: `python fit_run.py CHECKPOINT OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paramcast.training.fitting import Schedule, fit


def run(checkpoint: Path) -> nn.Module:
    """Train a regression with dropout and batch statistics; write a checkpoint after every second step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.BatchNorm1d(8), nn.Linear(8, 300), nn.Dropout(0.5), nn.Linear(300, 300), nn.Linear(300, 1)
    )
    teacher = torch.randn(8)

    def loss(rng: np.random.Generator) -> Tensor:
        x = torch.from_numpy(rng.normal(size=(16, 8)).astype(np.float32))
        error: Tensor = (module(x)[:, 0] - x @ teacher).square().mean()
        return error

    def validate() -> float:
        x = torch.linspace(-1, 1, 32)[:, None].expand(-1, 8)
        return -float((module(x)[:, 0] - x @ teacher).square().mean())

    fit("regression", module, loss, validate, Schedule(30, 2), seed=3, checkpoint=checkpoint)
    return module


if __name__ == "__main__":
    print("ready", flush=True)
    save_file(run(Path(sys.argv[1])).state_dict(), sys.argv[2])
