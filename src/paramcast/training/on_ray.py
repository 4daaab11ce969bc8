"""Features and training on a cluster of Ray (extra `ray`), for collections that one machine cannot hold.

Ray Data reads and encodes clips wherever there is room, Ray Train feeds each worker those of its share, and
the workers train one model together (`Team`). The collection and the model's folder have to be at the same
places on all machines.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.data.collection import Collection
from paramcast.data.features import Request
from paramcast.errors import InputError, MissingExtraError
from paramcast.training.model import TrainedModel, feature_store
from paramcast.training.options import TrainingOptions
from paramcast.training.pipeline import train
from paramcast.training.plan import Plan
from paramcast.training.team import Team

CLIPS_A_BATCH = 16
RESTARTS = 3
"""How often the workers are started again, from their last checkpoint, when one is lost."""


def train_on_ray(data: Path, out: Path, options: TrainingOptions, workers: int) -> TrainedModel:
    """Train as `pipeline.train` does, on the cluster that RAY_ADDRESS names, or on this machine.

    Args:
        data: A collection's folder.
        out: The model's folder; a run that was killed goes on from it.
        options: What is trained.
        workers: Each takes a core. Encoding comes first, and has all that there are.

    Raises:
        InputError: As `pipeline.train`, or the cluster has too few cores.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
        from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ModuleNotFoundError as error:
        raise MissingExtraError("training on Ray", "ray") from error
    data, out = data.resolve(), out.resolve()
    collection = Collection.open(data)
    plans = [Plan(collection, options, Team(rank, workers)) for rank in range(workers)]
    ray.init(ignore_reinit_error=True)
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < workers:
        raise InputError(f"{workers} workers need as many cores; there are {cores}")
    trainer = TorchTrainer(
        _work,
        train_loop_config={"data": str(data), "out": str(out), "options": asdict(options)},
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(
            name="ray", storage_path=str(out), failure_config=FailureConfig(max_failures=RESTARTS)
        ),
        # Made before the workers take their cores; what does not fit into memory, Ray keeps on disks.
        datasets={_share(plan.team.rank): encoded(plan).materialize() for plan in plans},
        dataset_config=DataConfig(datasets_to_split=[]),
    )
    trainer.fit()
    shutil.rmtree(out / "ray", ignore_errors=True)
    return TrainedModel.load(out)


def encoded(plan: Plan) -> Any:
    """The clips of a plan as its devices see them: a `ray.data.Dataset` of requests and their features."""
    import ray

    requests = dict.fromkeys((clip, cameras) for clip, cameras, _ in plan.views().clip_keys())
    shared = ray.put((plan.shown, plan.options))
    return ray.data.from_items([{"request": pickle.dumps(request)} for request in requests]).map_batches(
        _Encoder,
        fn_constructor_args=[[shared]],  # in a list, so that actors fetch it themselves
        batch_size=CLIPS_A_BATCH,
        compute=ray.data.ActorPoolStrategy(min_size=1),
        num_cpus=1,
    )


class _Encoder:
    """An actor: adds features to requests."""

    def __init__(self, shared: list[Any]) -> None:
        import ray

        self._store = feature_store(*ray.get(shared[0]))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        features = self._store.clips([pickle.loads(request) for request in batch["request"]])
        self._store.forget()
        return batch | {"features": [pickle.dumps(np.asarray(each)) for each in features]}


def _work(config: dict[str, Any]) -> None:
    """What a worker of Ray Train does."""
    team = Team.current()
    train(
        Collection.open(config["data"]),
        Path(config["out"]),
        TrainingOptions(**config["options"]),
        team,
        _received(team),
    )


def _received(team: Team) -> Iterator[tuple[Request, np.ndarray]]:
    import ray.train

    share = ray.train.get_dataset_shard(_share(team.rank))
    for batch in share.iter_batches(batch_size=CLIPS_A_BATCH):
        for request, features in zip(batch["request"], batch["features"], strict=True):
            yield pickle.loads(request), pickle.loads(features)


def _share(rank: int) -> str:
    return f"share-{rank}"
