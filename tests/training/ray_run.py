"""A training run on a real Ray whose second worker is killed: `python ray_run.py WORLD OUT TASK`.

Prints how many were killed. A process of its own: Ray warns, forks and listens on its own terms.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import psutil

WORKER = "TrainWorker"
"""Part of the name of a worker's process."""


def kill_one(out: Path, killed: list[int]) -> None:
    """As soon as there is a checkpoint, end a worker for good."""
    while not any((out / "checkpoints").glob("*")):
        time.sleep(0.05)
    workers = [one for one in psutil.Process().children(recursive=True) if WORKER in one.name()]
    workers[-1].kill()
    killed.append(workers[-1].pid)


def main(world: Path, out: Path, task: str) -> None:
    # Ray's workers would give way to all else that runs, as their niceness is 15.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray
    from train_run import options

    from paramcast.video.training.on_ray import train_on_ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    killed: list[int] = []
    threading.Thread(target=kill_one, args=(out, killed), daemon=True).start()
    train_on_ray(world, out, options(task), workers=2)
    print(len(killed))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
