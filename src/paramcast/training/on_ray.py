"""Workers of Ray Train that train one model together (extra `ray`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paramcast.errors import InputError, MissingExtraError

RESTARTS = 3
"""Number of restarts of the workers from their last checkpoint after a worker is lost."""


def connect(workers: int) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine.

    Args:
        workers: Number of workers; each needs a core.

    Raises:
        InputError: The cluster has too few cores.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("training on Ray", "ray") from error
    ray.init(ignore_reinit_error=True)
    cores = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call, unused-ignore]
    if cores < workers:
        raise InputError(f"{workers} workers need as many cores; there are {cores}")


def train_together(
    work: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    out: Path,
    workers: int,
    datasets: Mapping[str, Any] | None = None,
) -> None:
    """Run a function on several workers that are one process group of torch.distributed.

    The workers are started again when one is lost, so `work` must continue from its checkpoints.

    Args:
        work: The function; each worker calls it with `config`.
        config: Argument of `work`, of JSON types.
        out: The model's folder, with the same path on all machines.
        workers: Number of workers.
        datasets: Name -> a `ray.data.Dataset`; every worker reads the whole dataset.
    """
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        work,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(
            name="ray", storage_path=str(out), failure_config=FailureConfig(max_failures=RESTARTS)
        ),
        datasets=dict(datasets or {}),
        dataset_config=DataConfig(datasets_to_split=[]),
    )
    trainer.fit()
    shutil.rmtree(out / "ray", ignore_errors=True)
