"""The stages of training: base models, adaptors on devices that their base models have not seen, gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from paramcast.hypernet.forms import FormHypernetwork
from paramcast.training.fitting import Schedule, fit
from paramcast.training.gates import Outcomes, calibrate, fit_gate, joined, promise
from paramcast.video.training.bank import Bank
from paramcast.video.training.episodes import DEVICES_A_STEP, SUPPORT_SIZES, Lessons, moved_view
from paramcast.video.training.fleets import kind_of
from paramcast.video.training.material import BaseLessons, Material
from paramcast.video.training.model import CONDITIONS, TrainedModel
from paramcast.video.training.outcomes import Unedited, gate_lessons, outcomes
from paramcast.video.training.plan import FOLDS, PLAIN_SHARE
from paramcast.video.training.views import UplinkTable

VALIDATION_SUPPORTS = (1, 8)  # an adaptor has to do well with little and with much
VALIDATIONS = 4  # of an adaptor; at more of them, one would be chosen for its luck
BETA = 0.8  # weight of the ADR's loss


def train_bases(
    model: TrainedModel, data: Material, work: Path
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """Base models without each fold in turn, aligned with that of all folds, which is left in `model`."""
    initial = _copied(model.base)
    scores = {"base": _train_base(model, data, None, work)}
    final, states = _copied(model.base), []
    for fold in range(FOLDS):
        model.base.load_state_dict(initial)
        _train_base(model, data, fold, work)
        data.task.align(model.base, final, data.bank, data.clips)
        data.team.align(model.base)
        states.append(_copied(model.base))
    model.base.load_state_dict(final)
    return states, scores


def _train_base(model: TrainedModel, data: Material, fold: int | None, work: Path) -> float:
    lessons = data.seen_by(fold)
    return fit(
        "base" if fold is None else f"base without fold {fold + 1} of {FOLDS}",
        model.base,
        _base_loss(model, data, lessons),
        _base_score(model, data),
        lessons.schedule(data.task, data.team),
        data.plan.options.seed,
        work / f"base-{'all' if fold is None else fold}.safetensors",
        team=data.team,
    )


def _base_loss(
    model: TrainedModel, data: Material, lessons: BaseLessons
) -> Callable[[np.random.Generator], Tensor]:
    batch = data.team.part(data.task.base_batch)

    def loss(rng: np.random.Generator) -> Tensor:
        return data.task.base_loss(model.base, data.bank, lessons.draw(rng), rng, batch)

    return loss


def _base_score(model: TrainedModel, data: Material) -> Callable[[], float]:
    def score() -> float:
        """Mean over validation devices and figures, in percent."""
        adapted, task = model.adaptor.adapted, data.task
        found = [
            task.mean_score(adapted, None, data.bank, device, data.gallery) for device in data.validation
        ]
        return float(np.mean(found))

    return score


def train_adaptors(
    model: TrainedModel,
    data: Material,
    bases: Sequence[dict[str, Tensor]],
    work: Path,
    conditions: Sequence[str] = CONDITIONS,
) -> dict[str, float]:
    """Each adaptor on devices of the folds that its base model has not seen, then its gate."""
    final = _copied(model.base)
    _set_centres(model, data)
    table = model.table(data.bank)
    lessons = lessons_of(data, model)
    views = [(data.bank, table)]
    if data.task.offset_share:  # else no validation would ask for a centre
        views.append(moved_view(data.bank, table, data.plan.options.seed))
    if model.adaptor.reasoner:
        model.adaptor.reasoner.fit(*table.pairs(data.clips))
        data.team.align(model.adaptor.reasoner)
    model.base.requires_grad_(False)
    kinds = [kind_of(device.device) for device in data.validation]
    scores = {}
    unedited: Unedited = {}
    adaptors = {condition: model.adaptors[condition] for condition in conditions}
    for condition, adaptor in adaptors.items():

        def loss(rng: np.random.Generator, adaptor: FormHypernetwork = adaptor) -> Tensor:
            fold = int(rng.integers(len(lessons)))
            model.base.load_state_dict(bases[fold])
            model.base.train()
            return lessons[fold].loss(adaptor, rng, BETA)

        def validate(adaptor: FormHypernetwork = adaptor) -> float:
            model.base.load_state_dict(final)
            model.base.eval()
            known = (
                outcomes(data.task, adaptor, view, data.validation, data.gallery, [size], unedited)
                for view, size in product(views, VALIDATION_SUPPORTS)
            )
            return float(np.mean([promise(each, kinds) for each in known]))

        steps = data.plan.options.adaptor_steps
        scores[condition] = fit(
            f"adaptor ({condition})",
            adaptor,
            loss,
            validate,
            Schedule(steps, max(1, steps // VALIDATIONS)),
            data.plan.options.seed,
            work / f"adaptor-{condition}.safetensors",
            team=data.team,
            may_stay=False,  # the gate finds the devices that it does not serve
        )
    model.base.load_state_dict(final)
    if model.adaptor.reasoner:
        model.adaptor.reasoner.calibrate(*table.pairs(data.gallery))
    _train_gates(model, adaptors, data, bases, lessons, views, unedited)
    model.base.requires_grad_(True)
    return scores


def lessons_of(data: Material, model: TrainedModel) -> list[Lessons]:
    """Return for each fold the lessons about devices that see its clips."""
    table = model.table(data.bank)
    fold_of, part = data.plan.fold_of, data.team.part(DEVICES_A_STEP)
    folds = [[clip for clip in data.clips if fold_of[clip.clip_id] == fold] for fold in range(FOLDS)]
    return [
        Lessons(data.task, data.bank, table, devices, plain, PLAIN_SHARE, clips, part)
        for devices, plain, clips in zip(data.devices, data.plain, folds, strict=True)
    ]


def _train_gates(
    model: TrainedModel,
    adaptors: Mapping[str, FormHypernetwork],
    data: Material,
    bases: Sequence[dict[str, Tensor]],
    lessons: Sequence[Lessons],
    views: Sequence[tuple[Bank, UplinkTable]],
    unedited: Unedited,
) -> None:
    final = _copied(model.base)
    known: dict[str, list[Outcomes]] = {condition: [] for condition in adaptors}
    model.base.eval()
    for base, lesson in zip(tqdm(bases, desc="gates", unit="fold", disable=None), lessons, strict=True):
        model.base.load_state_dict(base)
        here: Unedited = {}
        for (condition, adaptor), view in product(adaptors.items(), views):
            known[condition] += gate_lessons(adaptor, lesson, view, here)
    model.base.load_state_dict(final)
    for condition, adaptor in adaptors.items():
        fit_gate(adaptor, joined(chain(*data.team.everyones(known[condition]))))
        calibrate(
            adaptor,
            joined(
                outcomes(data.task, adaptor, view, data.validation, data.gallery, [support], unedited)
                for view, support in product(views, SUPPORT_SIZES)
            ),
        )


def _set_centres(model: TrainedModel, data: Material) -> None:
    """Let the centre's directions be the leading ones of the texts."""
    directions = torch.from_numpy(model.text_uplink.directions[: model.config.centre_dims])
    for layer, effects in data.task.centred(model.base).items():
        for adaptor in model.adaptors.values():
            assert adaptor.centre
            adaptor.centre.set_basis(layer, effects(directions).detach())


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}
