"""The two stages of training: base models, then adaptors on devices that their base models have not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.adaptor import Adaptor
from paramcast.adaptor.adaptor import CENTRE_DIMS
from paramcast.data.seeding import seed_from
from paramcast.training.bank import Bank
from paramcast.training.episodes import OFFSET_DIMS, OFFSET_SIZE, Lessons, generate, score_devices
from paramcast.training.fitting import Schedule, fit
from paramcast.training.material import FOLDS, PLAIN_SHARE, BaseLessons, Material
from paramcast.training.model import CONDITIONS, TrainedModel
from paramcast.training.views import UplinkTable

VALIDATION_SUPPORTS = (1, 8)  # an adaptor has to do well with little and with much
VALIDATIONS = 4  # of an adaptor; at more of them, one would be chosen for its luck
BETA = 0.1  # weight of the ADR's loss


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
        states.append(_copied(model.base))
    model.base.load_state_dict(final)
    return states, scores


def _train_base(model: TrainedModel, data: Material, fold: int | None, work: Path) -> float:
    lessons = data.seen_by(fold)
    texts = sum(len(clip.items) + len(clip.hints) // 4 for clip in lessons.plain)
    every = max(1, texts // data.task.base_batch)
    return fit(
        "base" if fold is None else f"base without fold {fold + 1} of {FOLDS}",
        model.base,
        _base_loss(model, data, lessons),
        _base_score(model, data),
        Schedule(data.task.base_epochs * every, every),
        data.options.seed,
        work / f"base-{'all' if fold is None else fold}.safetensors",
    )


def _base_loss(
    model: TrainedModel, data: Material, lessons: BaseLessons
) -> Callable[[np.random.Generator], Tensor]:
    def loss(rng: np.random.Generator) -> Tensor:
        return data.task.base_loss(model.base, data.bank, lessons.draw(rng), rng)

    return loss


def _base_score(model: TrainedModel, data: Material) -> Callable[[], float]:
    return lambda: score_devices(data.task, model.adaptor, data.bank, data.validation, data.gallery, None)


def train_adaptors(
    model: TrainedModel, data: Material, bases: Sequence[dict[str, Tensor]], work: Path
) -> dict[str, float]:
    """Each adaptor on devices of the folds that its base model has not seen."""
    final = _copied(model.base)
    _set_centres(model, data)
    table = UplinkTable.build(data.bank, model.image_uplink, model.text_uplink)
    lessons = [
        Lessons(
            data.task,
            data.bank,
            table,
            devices,
            plain,
            PLAIN_SHARE,
            [clip for clip in data.clips if data.fold_of[clip.clip_id] == fold],
        )
        for fold, (devices, plain) in enumerate(zip(data.devices, data.plain, strict=True))
    ]
    views = [(data.bank, table)]
    if data.task.offset_share:
        moved = _moved(data, table)
        views.append((moved, UplinkTable.build(moved, model.image_uplink, model.text_uplink)))
    model.base.requires_grad_(False)
    scores = {}
    for condition in CONDITIONS:
        adaptor = model.adaptors[condition]

        def loss(rng: np.random.Generator, adaptor: Adaptor = adaptor) -> Tensor:
            fold = int(rng.integers(len(lessons)))
            model.base.load_state_dict(bases[fold])
            model.base.train()
            return lessons[fold].loss(adaptor, rng, BETA)

        def validate(adaptor: Adaptor = adaptor) -> float:
            model.base.load_state_dict(final)
            model.base.eval()
            found = []
            for bank, seen in views:
                for support in VALIDATION_SUPPORTS:
                    packages = generate(adaptor, seen, data.validation, support)
                    found.append(
                        score_devices(data.task, adaptor, bank, data.validation, data.gallery, packages)
                    )
            return float(np.mean(found))

        steps = data.options.adaptor_steps
        scores[condition] = fit(
            f"adaptor ({condition})",
            adaptor,
            loss,
            validate,
            Schedule(steps, max(1, steps // VALIDATIONS)),
            data.options.seed,
            work / f"adaptor-{condition}.safetensors",
        )
    model.base.load_state_dict(final)
    model.base.requires_grad_(True)
    return scores


def _moved(data: Material, table: UplinkTable) -> Bank:
    """The bank as if it were of another collection: without it, no validation would ask for a centre."""
    rng = np.random.default_rng(seed_from("moved", data.options.seed))
    images, texts = (
        torch.from_numpy(rng.normal(size=OFFSET_DIMS).astype(np.float32) * OFFSET_SIZE / 3) for _ in range(2)
    )
    frame_offset, text_offset = table.lifted(images, texts)
    bank = data.bank
    return replace(
        bank,
        frames=(bank.frames + frame_offset) * bank.mask[..., None],
        texts=bank.texts + text_offset,
    )


def _set_centres(model: TrainedModel, data: Material) -> None:
    """Let the centre's directions be the leading ones of the features."""
    for layer, (trunk, effects) in data.task.centred(model.base).items():
        uplink, place = (model.image_uplink, 0) if trunk == "image" else (model.text_uplink, 1)
        moved = effects(torch.from_numpy(uplink.directions[:CENTRE_DIMS])).detach()
        basis = F.pad(moved, (0, 0, place * CENTRE_DIMS, (1 - place) * CENTRE_DIMS))
        for adaptor in model.adaptors.values():
            assert adaptor.centre
            adaptor.centre.set_basis(layer, basis)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}
