"""The stages of training: base models, hypernetworks on devices that their base has not seen, and gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.hypernet.forms import FormHypernetwork
from paramcast.training.fitting import Schedule, fit, load_fitted
from paramcast.training.gates import VALIDATIONS, Outcomes, calibrate, fit_gate, joined, promise
from paramcast.video.training.bank import Bank
from paramcast.video.training.episodes import DEVICES_A_STEP, SUPPORT_SIZES, Lessons, moved_view
from paramcast.video.training.fleets import kind_of
from paramcast.video.training.material import BaseLessons, Material
from paramcast.video.training.model import CONDITIONS, TrainedModel
from paramcast.video.training.outcomes import Unedited, gate_lessons, outcomes
from paramcast.video.training.plan import FOLDS, PLAIN_SHARE
from paramcast.video.training.views import UplinkTable

VALIDATION_SUPPORTS = (1, 8)  # a hypernetwork must work with few and with many clips
BETA = 0.8  # weight of the ADR's loss


def train_bases(
    model: TrainedModel, data: Material, work: Path
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """Train a base model of all folds, which stays in `model`, and one without each fold, aligned with it.

    Returns:
        The states of the base models without a fold, in the folds' order, and the score of the base model of
        all folds.
    """
    initial = _copied(model.base)

    def train(fold: int | None) -> float:
        model.base.load_state_dict(initial)
        return _train_base(model, data, fold, work)

    found = data.team.run([partial(train, fold) for fold in (None, *range(FOLDS))])
    load_fitted(_base_file(work, None), model.base)
    final, states = _copied(model.base), []
    for fold in range(FOLDS):
        load_fitted(_base_file(work, fold), model.base)
        data.task.align(model.base, final, data.bank, data.clips)
        data.team.align(model.base)
        states.append(_copied(model.base))
    model.base.load_state_dict(final)
    return states, {"base": found[0]}


def _base_file(work: Path, fold: int | None) -> Path:
    return work / f"base-{'all' if fold is None else fold}.safetensors"


def _train_base(model: TrainedModel, data: Material, fold: int | None, work: Path) -> float:
    lessons = data.seen_by(fold)
    return fit(
        "base" if fold is None else f"base without fold {fold + 1} of {FOLDS}",
        model.base,
        _base_loss(model, data, lessons),
        _base_score(model, data),
        lessons.schedule(data.task, data.team),
        data.plan.options.seed,
        _base_file(work, fold),
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
        """Compute the mean over validation devices and metrics, in percent."""
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
    """Train each hypernetwork on devices of folds that its base model has not seen, then its gate.

    Returns:
        Condition -> validation score.
    """
    final = _copied(model.base)
    _set_centres(model, data)
    table = model.table(data.bank)
    lessons = lessons_of(data, model)
    views = [(data.bank, table)]
    if data.task.offset_share:  # otherwise validation would not need a centre
        views.append(moved_view(data.bank, table, data.plan.options.seed))
    if model.adaptor.reasoner:
        model.adaptor.reasoner.fit(*table.pairs(data.clips))
        data.team.align(model.adaptor.reasoner)
    model.base.requires_grad_(False)
    kinds = [kind_of(device.device) for device in data.validation]
    adaptors = {condition: model.adaptors[condition] for condition in conditions}
    files = {condition: work / f"adaptor-{condition}.safetensors" for condition in conditions}
    steps = data.plan.options.adaptor_steps

    def train(condition: str) -> float:
        adaptor, unedited = adaptors[condition], Unedited()

        def loss(rng: np.random.Generator) -> Tensor:
            fold = int(rng.integers(len(lessons)))
            model.base.load_state_dict(bases[fold])
            model.base.train()
            return lessons[fold].loss(adaptor, rng, BETA)

        def validate() -> float:
            model.base.load_state_dict(final)
            model.base.eval()
            known = (
                outcomes(data.task, adaptor, view, data.validation, data.gallery, [size], unedited)
                for view, size in product(views, VALIDATION_SUPPORTS)
            )
            return float(np.mean([promise(each, kinds) for each in known]))

        return fit(
            f"adaptor ({condition})",
            adaptor,
            loss,
            validate,
            Schedule(steps, max(1, steps // VALIDATIONS)),
            data.plan.options.seed,
            files[condition],
            team=data.team,
            may_stay=False,  # the gate leaves out devices that it does not help
        )

    found = data.team.run([partial(train, condition) for condition in conditions])
    for condition, adaptor in adaptors.items():
        load_fitted(files[condition], adaptor)
    model.base.load_state_dict(final)
    if model.adaptor.reasoner:
        model.adaptor.reasoner.calibrate(*table.pairs(data.gallery))
    _train_gates(model, adaptors, data, bases, lessons, views)
    model.base.requires_grad_(True)
    return dict(zip(conditions, found, strict=True))


def lessons_of(data: Material, model: TrainedModel) -> list[Lessons]:
    """Return, for each fold, the lessons with devices of this fold."""
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
) -> None:
    """Fit the gate of every hypernetwork on the devices of all folds; calibrate it on validation devices."""
    final = _copied(model.base)
    model.base.eval()

    def of_fold(fold: int) -> list[Outcomes]:
        model.base.load_state_dict(bases[fold])
        unedited = Unedited()
        return [
            joined(chain(*(gate_lessons(adaptor, lessons[fold], view, unedited) for view in views)))
            for adaptor in adaptors.values()
        ]

    def of_validation() -> list[Outcomes]:
        model.base.load_state_dict(final)
        unedited = Unedited()
        return [
            joined(
                outcomes(data.task, adaptor, view, data.validation, data.gallery, [support], unedited)
                for view, support in product(views, SUPPORT_SIZES)
            )
            for adaptor in adaptors.values()
        ]

    jobs: list[Callable[[], list[Outcomes]]] = [partial(of_fold, fold) for fold in range(len(bases))]
    jobs.append(of_validation)
    *folds, validation = data.team.run(jobs)
    model.base.load_state_dict(final)
    for adaptor, known, held in zip(adaptors.values(), zip(*folds, strict=True), validation, strict=True):
        fit_gate(adaptor, joined(chain(*data.team.everyones(known))))
        calibrate(adaptor, held)


def _set_centres(model: TrainedModel, data: Material) -> None:
    """Set the centre's directions to the leading directions of the texts' features."""
    directions = torch.from_numpy(model.text_uplink.directions[: model.config.centre_dims])
    for layer, effects in data.task.centred(model.base).items():
        for adaptor in model.adaptors.values():
            assert adaptor.centre
            adaptor.centre.set_basis(layer, effects(directions).detach())


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}
