"""Two-stage training: base models on folds of the clips, then adaptors on devices of the fold left out.

An adaptor that is trained on clips which the base model was trained on learns from features that the base has
memorised, and ends below the base on new devices. So training is cross-fitted: with the clips in folds, fold
k's devices are adapted from a base model that never saw fold k. The adaptor then serves the base model of all
folds. (Keeping clips from a single base model instead cost the base and the adaptor: docs/log.md.)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch

from paramcast.data.collection import Collection
from paramcast.files import check_same_run, write_json
from paramcast.training.material import Material
from paramcast.training.model import TrainedModel
from paramcast.training.options import TrainingOptions
from paramcast.training.stages import train_adaptors, train_bases

__all__ = ["TrainingOptions", "train"]


def train(collection: Collection, out: Path, options: TrainingOptions) -> TrainedModel:
    """Train a base model and its adaptors, and save them to `out`.

    A run that was killed goes on from its last checkpoint; a finished one is loaded.

    Raises:
        InputError: The collection does not serve the task, or `out` holds a run with other options.
    """
    run = {"collection": collection.name, "clips": len(collection.clips), **asdict(options)}
    if _same_run(out, run) and (out / "config.json").exists():
        return TrainedModel.load(out)
    work = out / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", run)
    data = Material(collection, options)
    model = data.new_model()
    with _one_thread():
        bases, scores = train_bases(model, data, work)
        scores |= train_adaptors(model, data, bases, work)
    model.config = replace(model.config, scores=scores)
    model.save(out)
    shutil.rmtree(work)
    return model


def _same_run(out: Path, run: Mapping[str, object]) -> bool:
    path = out / "run.json"
    if not path.exists():
        return False
    check_same_run(out, "a run", json.loads(path.read_text(encoding="utf-8")), run)
    return True


@contextmanager
def _one_thread() -> Iterator[None]:
    """The layers are small: further threads would wait longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
