"""A whole training run that a test kills: `python train_run.py WORLD OUT TASK`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.pipeline import TrainingOptions, train


def options(task: str) -> TrainingOptions:
    """Return the options of a very small training run."""
    return TrainingOptions(task, seed=1, frames=2, devices=4, adaptor_steps=3)


def run(world: Path, out: Path, task: str) -> TrainedModel:
    """Start or continue training, with one thread."""
    torch.set_num_threads(1)
    return train(Collection.open(world), out, options(task))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
