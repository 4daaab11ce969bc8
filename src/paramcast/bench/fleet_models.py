"""Models of the demo's size, one for each seed, and the folders of such runs, for all benchmarks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from paramcast.bench.demo import FULL
from paramcast.paths import cache_dir
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train


def demo_sized_models(collection: Collection, seeds: Iterable[int], task: str) -> list[TrainedModel]:
    """Train one model for each seed, or read it from the cache."""
    asked = [replace(FULL.training, task=task, seed=seed) for seed in seeds]
    return [train(collection, run_folder("model", collection, options), options) for options in asked]


def run_folder(kind: str, collection: Collection, options: TrainingOptions) -> Path:
    """Return the cache's folder of a run of this `kind`; size, task and seed have different folders."""
    size = f"{options.frames}-{options.devices}-{options.adaptor_steps}"
    return cache_dir("runs") / f"{kind}-{collection.name}-{options.task}-{size}-{options.seed}"
