"""Two-stage training: base models on folds of the clips, then adaptors on devices of the fold left out.

An adaptor that is trained on clips which the base model was trained on learns from features that the base has
memorised, and ends below the base on new devices. So training is cross-fitted: with the clips in folds, fold
k's devices are adapted from a base model that never saw fold k. The adaptor then serves the base model of all
folds. (Keeping clips from a single base model instead cost the base and the adaptor: docs/log.md.)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from paramcast.data.collection import Collection
from paramcast.files import check_same_run, write_json
from paramcast.training.fitting import one_thread
from paramcast.training.material import Material
from paramcast.training.model import CONDITIONS, TrainedModel
from paramcast.training.options import TrainingOptions
from paramcast.training.stages import train_adaptors, train_bases

__all__ = ["TrainingOptions", "train", "train_variants"]


def train(collection: Collection, out: Path, options: TrainingOptions) -> TrainedModel:
    """Train a base model and its adaptors, and save them to `out`.

    A run that was killed goes on from its last checkpoint; a finished one is loaded.

    Raises:
        InputError: The collection does not serve the task, or `out` holds a run with other options.
    """
    run = _run(collection, options)
    if _same_run(out, run) and (out / "config.json").exists():
        return TrainedModel.load(out)
    work = out / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", run)
    data = Material(collection, options)
    model = data.new_model()
    with one_thread():
        bases, scores = train_bases(model, data, work)
        scores |= train_adaptors(model, data, bases, work)
    model.config = replace(model.config, scores=scores)
    model.save(out)
    shutil.rmtree(work)
    return model


def train_variants(
    collection: Collection,
    out: Path,
    variants: Mapping[str, TrainingOptions],
    conditions: Sequence[str] = CONDITIONS,
) -> dict[str, TrainedModel]:
    """Train adaptors that differ in their form or in what they are given, all over the same base models.

    Goes on where an earlier run was killed, as `train` does. Adaptors of the other conditions are given
    nothing of a clip, so they are trained once for all variants of a form.

    Args:
        collection: Of all of them.
        out: A folder, with a model's folder for each variant.
        variants: Name -> what is asked for; they differ in form, form_options, evidence and anchors alone.
        conditions: Those that are wanted, 'support' among them; adaptors of others stay at the base model.

    Raises:
        InputError: As `train`.
    """
    run = {"conditions": list(conditions)} | {
        name: _run(collection, options) for name, options in variants.items()
    }
    done = (
        {name for name in variants if (out / name / "config.json").exists()} if _same_run(out, run) else set()
    )
    if done == variants.keys():
        return {name: TrainedModel.load(out / name) for name in variants}
    work = out / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", run)
    data = Material(collection, next(iter(variants.values())))
    shared = data.new_model()
    trained: dict[str, TrainedModel] = {}
    with one_thread():
        bases, scores = train_bases(shared, data, work)
        for name, options in variants.items():
            if name in done:
                trained[name] = TrainedModel.load(out / name)
                continue
            model = data.new_model(options)
            model.base.load_state_dict(shared.base.state_dict())
            wanted = _take_controls(model, trained.values(), conditions)
            (work / name).mkdir(exist_ok=True)
            found = train_adaptors(model, data, bases, work / name, wanted)
            model.config = replace(model.config, scores=scores | found)
            model.save(out / name)
            trained[name] = model
    shutil.rmtree(work)
    return trained


def _take_controls(
    model: TrainedModel, trained: Iterable[TrainedModel], conditions: Sequence[str]
) -> Sequence[str]:
    """Give the model the controls of another of its form; the conditions that are still to be trained."""
    form = model.config.form, model.config.form_options
    for other in trained:
        if (other.config.form, other.config.form_options) == form:
            for condition in set(conditions) - {"support"}:
                model.adaptors[condition].load_state_dict(other.adaptors[condition].state_dict())
            return ("support",)
    return conditions


def _run(collection: Collection, options: TrainingOptions) -> dict[str, Any]:
    """What has to be the same for a run to go on."""
    return {"collection": collection.name, "clips": len(collection.clips), **asdict(options)}


def _same_run(out: Path, run: Mapping[str, object]) -> bool:
    path = out / "run.json"
    if not path.exists():
        return False
    check_same_run(out, "a run", json.loads(path.read_text(encoding="utf-8")), run)
    return True
