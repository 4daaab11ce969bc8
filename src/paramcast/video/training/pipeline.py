"""Two-stage training: base models on folds of the clips, then adaptors on devices of the fold left out.

An adaptor that is trained on clips which the base model was trained on learns from features that the base has
memorized, and ends below the base on new devices. So training is cross-fitted: with the clips in folds, fold
k's devices are adapted from a base model that never saw fold k. The adaptor then serves the base model of all
folds. (Keeping clips from a single base model instead cost the base and the adaptor: docs/log.md.)
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from paramcast.errors import InputError
from paramcast.files import check_same_run, write_json
from paramcast.training.fitting import one_thread
from paramcast.training.team import ALONE, Team
from paramcast.video.data.collection import Collection
from paramcast.video.data.content import content_of
from paramcast.video.data.features import Known
from paramcast.video.training.material import Material
from paramcast.video.training.model import TrainedModel, check_trunks
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.plan import Plan
from paramcast.video.training.stages import train_adaptors, train_bases

__all__ = ["TrainingOptions", "train", "train_variants"]


def train(
    collection: Collection, out: Path, options: TrainingOptions, team: Team = ALONE, known: Known = ()
) -> TrainedModel:
    """Train a base model and its adaptors, and save them to `out`.

    A run that was killed goes on from its last checkpoint; a finished one is loaded.

    Args:
        collection: Of clips.
        out: The model's folder, the same for all of a team.
        options: What is trained.
        team: Those who train together; all call this.
        known: Features that others have made.

    Raises:
        InputError: The collection does not serve the task, or `out` holds a run with other options.
    """
    run = _run(collection, options) | ({"workers": team.size} if team.size > 1 else {})
    if team.agreed(_same_run(out, run) and (out / "config.json").exists()):
        return TrainedModel.load(out)
    work = out / "checkpoints"
    plan = Plan(collection, options, team)
    check_trunks(options)  # before the folder: a failed start leaves none
    if team.rank == 0:
        work.mkdir(parents=True, exist_ok=True)
        write_json(out / "run.json", run)
    _say(f"1 of 3: reading and encoding {len(collection.clips)} clips, as devices see them")
    data = Material(plan, known)
    model = data.new_model()
    with one_thread():
        _say("2 of 3: training base models, each without another fold")
        bases, scores = train_bases(model, data, work)
        _say("3 of 3: training adaptors")
        scores |= train_adaptors(model, data, bases, work)
    model.config = replace(model.config, scores=scores)
    if team.rank == 0:
        model.save(out)
        shutil.rmtree(work)
    return model


def train_variants(
    collection: Collection, out: Path, variants: Mapping[str, TrainingOptions]
) -> dict[str, TrainedModel]:
    """Train adaptors that differ in their form or in what they are given, all over the same base models.

    They have no oracle. Constant controls are given nothing of a clip, so there is one for each form. Goes on
    where an earlier run was killed, as `train` does, and adds to what earlier runs with other variants left.

    Args:
        collection: Of all of them.
        out: A folder, with the base models' checkpoints and a model's folder for each variant.
        variants: Name -> what is asked for; they differ in form, form_options, evidence and anchors alone.

    Raises:
        InputError: As `train`.
    """
    first = next(iter(variants.values()))
    run = {key: value for key, value in _run(collection, first).items() if key not in _OF_ADAPTORS}
    folders = {name: out / _folder(options) for name, options in variants.items()}
    if _same_run(out, run) and all((folder / "config.json").exists() for folder in folders.values()):
        return {name: TrainedModel.load(folder) for name, folder in folders.items()}
    work = out / "checkpoints"
    plan = Plan(collection, first)
    check_trunks(first)
    work.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", run)
    data = Material(plan)
    shared = data.new_model()
    trained: dict[str, TrainedModel] = {}
    with one_thread():
        bases, scores = train_bases(shared, data, work)
        for name, options in variants.items():
            if (folders[name] / "config.json").exists():
                trained[name] = TrainedModel.load(folders[name])
                continue
            model = data.new_model(options)
            model.base.load_state_dict(shared.base.state_dict())
            conditions = _without_known(model, trained.values())
            checkpoints = folders[name] / "checkpoints"
            checkpoints.mkdir(parents=True, exist_ok=True)
            found = train_adaptors(model, data, bases, checkpoints, conditions)
            model.config = replace(model.config, scores=scores | found)
            model.save(folders[name])
            shutil.rmtree(checkpoints)
            trained[name] = model
    return trained


def _say(what: str) -> None:
    """A line on stderr where there is no terminal for progress bars."""
    if not sys.stderr.isatty():
        print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)


_OF_ADAPTORS = ("form", "form_options", "evidence", "anchors")


def _folder(options: TrainingOptions) -> str:
    """Where a variant is kept."""
    parts = [options.form, *(f"{key}{value}" for key, value in sorted(options.form_options.items()))]
    return "-".join([*parts, options.evidence, str(options.anchors)])


def _without_known(model: TrainedModel, trained: Iterable[TrainedModel]) -> tuple[str, ...]:
    """Give the model the control of another of its form; the conditions that are still to be trained."""
    form = model.config.form, model.config.form_options
    for other in trained:
        if (other.config.form, other.config.form_options) == form:
            model.adaptors["constant"].load_state_dict(other.adaptors["constant"].state_dict())
            return ("support",)
    return "support", "constant"


def _run(collection: Collection, options: TrainingOptions) -> dict[str, Any]:
    """What has to be the same for a run to go on."""
    about = {"collection": collection.name, "clips": len(collection.clips)}
    return {**about, "content": content_of(collection), **asdict(options)}


def _same_run(out: Path, run: Mapping[str, object]) -> bool:
    path = out / "run.json"
    if not path.exists():
        return False
    before = json.loads(path.read_text(encoding="utf-8"))
    if {key: value for key, value in before.items() if key != "content"} == {
        key: value for key, value in run.items() if key != "content"
    } and before.get("content") != run.get("content"):
        raise InputError(
            f"{out} holds a run on other data: the lines of the collection or its files have "
            "changed since; choose another folder, or remove it to train again"
        )
    check_same_run(out, "a run", before, run)
    return True
