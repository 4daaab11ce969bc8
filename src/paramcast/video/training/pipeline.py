"""Two-stage training: base models on folds of the clips, then hypernetworks on the fold left out.

If a hypernetwork is trained on clips that the base model was trained on, it learns from features that the
base has memorized, and its updates are worse than the base on new devices. So training is cross-fitted over
folds of the clips: the devices of a fold are adapted from a base model that has not seen this fold. Then the
hypernetwork serves the base model of all folds. (An alternative is to keep some clips from a single base
model. Both the base and the hypernetwork were worse then: docs/log.md.)
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
    """Train a base model and its hypernetworks, and save them to `out`.

    A killed run continues from its last checkpoint; a finished run is loaded.

    Args:
        collection: The collection.
        out: The model's folder; the processes of a team need the same folder.
        options: Options of training.
        team: The processes that train together; all must call this.
        known: Features that other processes have encoded.

    Raises:
        InputError: The collection cannot be used for the task, or `out` holds a run with other options.
    """
    run = _run(collection, options) | ({"workers": team.size} if team.size > 1 else {})
    if team.agreed(_same_run(out, run) and (out / "config.json").exists()):
        return TrainedModel.load(out)
    work = out / "checkpoints"
    plan = Plan(collection, options, team)
    check_trunks(options)  # before the folder is made, so that a failed start leaves no folder
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
    """Train hypernetworks that differ in form, evidence or anchors, for the same base models.

    No oracle is trained. Constant controls read nothing of a clip, so one is trained for each form. A killed
    run continues, as with `train`. Variants of earlier runs stay in the folder.

    Args:
        collection: The collection.
        out: A folder for the base models' checkpoints and for the folder of each variant.
        variants: Name -> options, which may differ only in form, form_options, evidence and anchors.

    Raises:
        InputError: See `train`.
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
    """Print a line on stderr if stderr is no terminal, where progress bars are not shown."""
    if not sys.stderr.isatty():
        print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)


_OF_ADAPTORS = ("form", "form_options", "evidence", "anchors")


def _folder(options: TrainingOptions) -> str:
    """Return the name of a variant's folder."""
    parts = [options.form, *(f"{key}{value}" for key, value in sorted(options.form_options.items()))]
    return "-".join([*parts, options.evidence, str(options.anchors)])


def _without_known(model: TrainedModel, trained: Iterable[TrainedModel]) -> tuple[str, ...]:
    """Copy the constant control of a model of the same form, if any; return the conditions to train."""
    form = model.config.form, model.config.form_options
    for other in trained:
        if (other.config.form, other.config.form_options) == form:
            model.adaptors["constant"].load_state_dict(other.adaptors["constant"].state_dict())
            return ("support",)
    return "support", "constant"


def _run(collection: Collection, options: TrainingOptions) -> dict[str, Any]:
    """Return the options and the collection's content; a run continues only if these are the same."""
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
