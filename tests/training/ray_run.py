"""Trains on Ray and kills a worker, then trains a module: `python ray_run.py WORLD OUT TASK`.

Writes `OUT/video` and `OUT/module`, and prints how many workers were killed. It runs in a separate process,
because Ray emits warnings, forks and opens ports.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import psutil
import torch
from corners import Corners, corners
from torch import nn

import paramcast as pc
from paramcast.cli import paramcast

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for `experiments`
WORKER = "TrainWorker"
"""Part of the name of a worker's process."""


def kill_one(out: Path, killed: list[int]) -> None:
    """Kill a worker as soon as there is a checkpoint."""
    while not any((out / "checkpoints").glob("*")):
        time.sleep(0.05)
    workers = [one for one in psutil.Process().children(recursive=True) if WORKER in one.name()]
    workers[-1].kill()
    killed.append(workers[-1].pid)


def main(world: Path, out: Path, task: str) -> None:
    # Ray's workers have niceness 15 by default, so all other processes would run before them.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray
    from train_run import options

    from experiments.ray_cloud import start_ray
    from paramcast.video.training.on_ray import train_on_ray

    start_ray(ray)
    killed: list[int] = []
    threading.Thread(target=kill_one, args=(out / "video", killed), daemon=True).start()
    train_on_ray(world, out / "video", options(task), workers=2)
    print(len(killed))
    arguments = ["--devices", f"{__file__}:devices", "--base", "--steps", "8", "--workers", "2"]
    trained = ["train", "--module", f"{__file__}:build", *arguments, "--out", str(out / "module")]
    paramcast(trained, standalone_mode=False)
    ray.shutdown()


def build() -> nn.Module:
    """Return the module that two workers train."""
    torch.manual_seed(0)
    return Corners()


def devices() -> list[pc.DeviceData]:
    """Return the devices that they train it on."""
    return corners(20, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
