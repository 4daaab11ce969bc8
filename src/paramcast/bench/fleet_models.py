"""Models of the demo's size, one a seed: what benchmarks of whole devices are run with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from paramcast.bench.demo import FULL
from paramcast.data.collection import Collection
from paramcast.paths import cache_dir
from paramcast.training.model import TrainedModel
from paramcast.training.pipeline import train


def demo_sized_models(
    collection: Collection, folders: Sequence[Path], seeds: Iterable[int]
) -> list[TrainedModel]:
    """The models in `folders`; where there are none, one is trained for each seed, or taken from the cache.

    Raises:
        ModelError: A folder holds no model.
    """
    if folders:
        return [TrainedModel.load(folder) for folder in folders]
    return [_trained(collection, seed) for seed in seeds]


def _trained(collection: Collection, seed: int) -> TrainedModel:
    options = replace(FULL.training, seed=seed)
    size = f"{options.frames}-{options.devices}-{options.adaptor_steps}"
    return train(
        collection, cache_dir("runs") / f"stream-{collection.name}-{options.task}-{size}-{seed}", options
    )
