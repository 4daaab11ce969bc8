"""A training run on a real Ray with two workers: `python ray_run.py WORLD OUT TASK`.

A process of its own: Ray warns, forks and listens on its own terms.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(world: Path, out: Path, task: str) -> None:
    # Ray's workers would give way to all else that runs, as their niceness is 15.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray
    from train_run import options

    from paramcast.training.on_ray import train_on_ray

    ray.init(num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
    train_on_ray(world, out, options(task), workers=2)
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
