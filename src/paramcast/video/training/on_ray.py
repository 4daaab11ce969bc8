"""Encoding and training on a Ray cluster (extra `ray`), for collections that are too large for one machine.

Ray Data reads and encodes clips on all free cores of the cluster. Ray Train sends each worker the features
of its share, and the workers train one model together (`Team`). The collection and the model's folder must
have the same paths on all machines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.training.on_ray import connect, train_together
from paramcast.training.team import Team
from paramcast.video.data.collection import Collection
from paramcast.video.data.features import Request
from paramcast.video.training.model import TrainedModel, feature_store
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train
from paramcast.video.training.plan import Plan

CLIPS_A_BATCH = 16


def train_on_ray(data: Path, out: Path, options: TrainingOptions, workers: int) -> TrainedModel:
    """Train like `pipeline.train`, on the cluster that RAY_ADDRESS names, or on this machine.

    Args:
        data: A collection's folder.
        out: The model's folder; a killed run continues from it.
        options: Options of training.
        workers: Number of workers; each needs a core. Encoding comes first and may use all cores.

    Raises:
        InputError: See `pipeline.train`; or the cluster has too few cores.
        MissingExtraError: Ray is not installed.
    """
    data, out = data.resolve(), out.resolve()
    collection = Collection.open(data)
    plans = [Plan(collection, options, Team(rank, workers)) for rank in range(workers)]
    connect(workers)
    features = encoded(plans)  # before the workers take their cores; Ray spills to disk if memory is full
    config = {"data": str(data), "out": str(out), "options": asdict(options)}
    train_together(_work, config, out, workers, features)
    return TrainedModel.load(out)


def encoded(plans: Sequence[Plan]) -> dict[str, Any]:
    """Encode the clips of the workers' plans as devices see them, each once, on all free cores.

    Returns:
        Name of a worker's share -> a `ray.data.MaterializedDataset` with a row for each of its requests.
        `place` is the request's place in the worker's plan, `frames` the number of frames, and `features` are
        little-endian float32 bytes.
    """
    import ray

    asked = [_requests(plan) for plan in plans]
    number = {request: place for place, request in enumerate(dict.fromkeys(chain(*asked)))}
    shown = plans[0].collection.extended(clip for plan in plans for clip in plan.made)
    shared = ray.put((shown, plans[0].options, list(number)))
    everything = ray.data.from_items([{"place": place} for place in range(len(number))]).map_batches(
        _Encoder,
        fn_constructor_args=[[shared]],  # in a list, so that actors fetch it themselves
        batch_size=CLIPS_A_BATCH,
        compute=ray.data.ActorPoolStrategy(min_size=1),
        num_cpus=1,
    )
    kept = everything.materialize()
    shares = {}
    for plan, requests in zip(plans, asked, strict=True):
        places = {number[request]: place for place, request in enumerate(requests)}
        shares[_share(plan.team.rank)] = kept.flat_map(partial(_of_share, places)).materialize()
    return shares


def _of_share(places: Mapping[int, int], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the row with its place in a plan, in a list; [] if the plan does not request it."""
    place = places.get(row["place"])
    return [] if place is None else [row | {"place": place}]


class _Encoder:
    """Ray actor that encodes the requests at given places."""

    def __init__(self, shared: list[Any]) -> None:
        import ray

        collection, options, self._requests = ray.get(shared[0])
        self._store = feature_store(collection, options)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        features = self._store.clips([self._requests[place] for place in batch["place"]])
        self._store.forget()
        return {
            "place": batch["place"],
            "frames": [len(each) for each in features],
            "features": [each.astype("<f4").tobytes() for each in features],
        }


def _work(config: dict[str, Any]) -> None:
    """Train on one worker of Ray Train."""
    collection, options = Collection.open(config["data"]), TrainingOptions(**config["options"])
    team = Team.current()
    known = _received(Plan(collection, options, team))
    train(collection, Path(config["out"]), options, team, known)


def _received(plan: Plan) -> Iterator[tuple[Request, np.ndarray]]:
    import ray.train

    requests = _requests(plan)
    share = ray.train.get_dataset_shard(_share(plan.team.rank))
    for batch in share.iter_batches(batch_size=CLIPS_A_BATCH):
        for place, frames, features in zip(batch["place"], batch["frames"], batch["features"], strict=True):
            yield requests[place], np.frombuffer(features, "<f4").reshape(frames, -1)


def _requests(plan: Plan) -> list[Request]:
    return list(dict.fromkeys((clip, cameras) for clip, cameras, _ in plan.views().clip_keys()))


def _share(rank: int) -> str:
    return f"share-{rank}"
