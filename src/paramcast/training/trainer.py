"""Training of any module: cross-fitted bases, hypernetworks on episodes, a gain predictor; resumable.

If a hypernetwork learns on devices that its base module has learned from, it sees features that the base has
memorized, and its updates are worse than the base on new devices. So the base is either trained here, once
for each fold of the devices without that fold, or it was trained before on other devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.errors import InputError
from paramcast.training import examples
from paramcast.training.bases import (
    Augment,
    FitBase,
    SeenDevicesWarning,
    State,
    Supervised,
    check_score,
    copied,
    cross_fitted,
    restored_to,
    variant,
    warn_if_seen,
)
from paramcast.training.checkpoints import checkpoint_folder
from paramcast.training.devices import DeviceData, check_devices, domain_names, domains_of
from paramcast.training.fitting import Schedule, load_fitted, one_thread
from paramcast.training.fitting import fit as fit_steps
from paramcast.training.free import choose_free, choose_start
from paramcast.training.gates import VALIDATIONS
from paramcast.training.layouts import check_rows
from paramcast.training.model import (
    CONDITIONS,
    UPLINK_DIM,
    AdaptableModel,
    device_of,
    sent_and_whole,
    without_gradients,
)
from paramcast.training.outcomes import fit_gain_predictor, summary
from paramcast.training.parallel import run_in_turn
from paramcast.training.scores import Loss, Score, chosen_loss, chosen_score
from paramcast.training.scoring import Contexts, scores_of, training_sizes, updates, validation_sizes
from paramcast.training.seeding import seed_from
from paramcast.training.start import starting
from paramcast.training.team import Team
from paramcast.training.uplink import Uplink

STEPS = 400
SUPPORT = 8
"""Default number of examples that devices adapt with."""
DEVICES_A_STEP = 16
QUERIES_A_DEVICE = 16
BETA = 0.8
"""Weight of the ADR's loss."""
FOLDS = 4


@dataclass(frozen=True)
class Plan:
    """Data and options that all stages of a training run need.

    Attributes:
        model: The model; it is trained in place.
        train, validation: Training and validation devices.
        loss, score: Loss and score of outputs and labels.
        augment: Makes a variant of a device for one step, or None.
        lessons: States of the base, each with devices that it has not seen.
        final: The state of the base that is kept.
        truths: True domain by device id, or None.
        support: Number of examples that devices adapt with.
        steps, rate, seed: Optimizer steps, peak learning rate and seed of each hypernetwork.
        precision: A torch dtype for autocast, or None.
        team: The processes that train together.
    """

    model: AdaptableModel
    train: Sequence[DeviceData]
    validation: Sequence[DeviceData]
    loss: Loss
    score: Score
    augment: Augment | None
    lessons: Sequence[tuple[State, Sequence[DeviceData]]]
    final: State
    truths: dict[str, np.ndarray] | None
    support: int
    steps: int
    rate: float
    seed: int
    precision: torch.dtype | None
    team: Team


def fit(
    model: AdaptableModel,
    train_devices: Sequence[DeviceData],
    validation_devices: Sequence[DeviceData],
    *,
    steps: int | None = None,
    base: bool | FitBase = False,
    augment: Augment | None = None,
    start: bool = False,
    support: int = SUPPORT,
    folds: int = FOLDS,
    rate: float = 1e-3,
    seed: int = 0,
    device: str | None = None,
    precision: torch.dtype | None = None,
    folder: Path | str | None = None,
) -> None:
    """Train a model's hypernetworks, and the base module if `base` asks for it.

    If torch.distributed has a process group (torchrun, Ray Train), its processes train together. All must
    call this with the same devices. Each trains some of the bases and takes its part of every step's
    devices, and all end with the same model.

    Args:
        model: The model; it is trained in place.
        train_devices: Devices to learn from. With `base=False` the module must not have seen them.
        validation_devices: Other devices, which select the training step and calibrate the gain predictor.
        steps: Optimizer steps of each hypernetwork; None: 400.
        base: False: keep the module's weights. True: train the module, too, with AdamW on all examples. A
            function (module, devices) trains it in place; it is called for all devices, and for all devices
            without each fold, from the same initial weights.
        augment: (device, generator) -> a variant of the device, drawn anew at every use: simulated devices.
            Several processes may call it.
        start: Whether updates start from a free baseline: the best one on validation devices, or an alignment
            of normalization statistics with learned strengths. Where the gain predictor refuses an update,
            the device still applies this start. Such a model cannot be exported yet.
        support: Number of examples that devices will adapt with; training also draws other numbers.
        folds: Folds of the devices for cross-fitting the base; fewer where there are fewer groups.
        rate: Peak learning rate.
        seed: Seed of all random draws.
        device: A torch device such as "cuda"; None: where the module is.
        precision: `torch.bfloat16` or `torch.float16` for mixed precision; None: none.
        folder: A folder for checkpoints. A killed run continues if it is started again with the same folder.
            None: no checkpoints are kept. Processes that train together need the same folder.

    Raises:
        InputError: Unusable devices, devices in both sets, fewer than 2 folds, or targets that cannot be
            adapted.
        TrainingDivergedError: The loss became infinite or NaN.
    """
    check_devices(train_devices, 2, "training")
    check_devices(validation_devices, support + 1, "validation")
    check_devices([*train_devices, *validation_devices], 2, "training and validation")
    if folds < 2:
        raise InputError("folds must be 2 or more: a hypernetwork needs devices that its base has not seen")
    if device is not None:
        model.net.to(device)
    run = {
        "steps": steps or STEPS,
        "support": support,
        "start": start,
        "base": bool(base),
        "folds": folds,
        "rate": rate,
        "seed": seed,
        "devices": [d.id for d in (*train_devices, *validation_devices)],
        **model._config(),
    }
    team = Team.current()
    if team.size > 1:
        run["workers"] = team.size
    with checkpoint_folder(folder, run, team) as work, _threads(model.net):
        run_jobs = team.run if _is_small(model.net) else run_in_turn
        outputs, labels = _first(model, train_devices[0])
        loss, score = chosen_loss(model.loss, outputs, labels), chosen_score(model.score, outputs, labels)
        model.loss, model.score = loss, score
        lessons = cross_fitted(model, train_devices, base, loss, folds, seed, augment, work, team, run_jobs)
        if not base:
            warn_if_seen(model, train_devices, validation_devices, score)
        check_score(model, validation_devices, score)
        example = examples.take(train_devices[0].inputs, slice(0, 4))
        batch = [
            examples.take(d.inputs, slice(0, min(4, len(d))))
            for d in [*train_devices, *validation_devices][:3]
        ]
        model.describer.prepare(model.net, examples.moved(example, device_of(model.net)))
        known = domains_of([*train_devices, *validation_devices])
        names = domain_names([*train_devices, *validation_devices])
        uplink = team.agreed(_uplink(model, train_devices))
        free = team.agreed(choose_free(model, lessons, validation_devices, support, score))
        torch.manual_seed(seed_from("hypernetworks", seed))
        fitted = model.begin(uplink, example, 0 if known is None else len(next(iter(known.values()))), names)
        fitted.summary["free"] = free
        plan = Plan(
            model,
            train_devices,
            validation_devices,
            loss,
            score,
            augment,
            lessons,
            copied(model.net),
            known,
            support,
            steps or STEPS,
            rate,
            seed,
            precision,
            team,
        )
        try:
            with without_gradients(model.net):
                for adapted in fitted.adapted.values():
                    adapted.check([examples.moved(b, device_of(model.net)) for b in batch])
                if start:
                    fitted.summary["start"] = team.agreed(
                        choose_start(
                            model,
                            lessons,
                            validation_devices,
                            support,
                            loss,
                            score,
                            seed_from("start", seed),
                        )
                    )
                    model.begin_with_start()
                run_jobs([partial(_fit_hypernet, plan, condition, work) for condition in fitted.hypernets])
                for condition, hypernet in fitted.hypernets.items():
                    load_fitted(_checkpoint(work, condition), hypernet)
                restored_to(model.net, plan.final)
                fit_gain_predictor(plan)
                team.align(model.hypernet)
        finally:
            restored_to(model.net, plan.final)
            model.net.eval()
        fitted.summary |= summary(plan)


def _checkpoint(work: Path, condition: str) -> Path:
    return work / f"hypernet-{condition}.safetensors"


def _fit_hypernet(plan: Plan, condition: str, work: Path) -> None:
    fitted = plan.model.fitted
    hypernet, contexts = fitted.hypernets[condition], Contexts(plan.model)
    for device in () if plan.augment or condition != "support" else plan.train:
        contexts.keep(device)
    for device in plan.validation if condition == "support" else ():
        contexts.keep(device)
    last: list[int | None] = [None]

    def step(rng: np.random.Generator) -> Tensor:
        place = int(rng.integers(len(plan.lessons)))
        state, devices = plan.lessons[place]
        if place != last[0]:
            restored_to(plan.model.net, state)
            last[0] = place
        return _lesson(plan, condition, devices, contexts, rng)

    def validate() -> float:
        restored_to(plan.model.net, plan.final)
        last[0] = None
        found = [
            np.nanmean(
                scores_of(
                    plan.model,
                    plan.validation,
                    updates(plan.model, plan.validation, size, condition, contexts, plan.truths),
                    size,
                    plan.score,
                    condition,
                )
            )
            for size in validation_sizes(plan.support)
        ]
        return plan.score.sign * float(np.mean(found))

    schedule = Schedule(plan.steps, max(1, plan.steps // VALIDATIONS), plan.rate)
    fit_steps(
        f"hypernetwork ({condition})",
        hypernet,
        step,
        validate,
        schedule,
        plan.seed,
        _checkpoint(work, condition),
        team=plan.team,
    )


def _lesson(
    plan: Plan, condition: str, devices: Sequence[DeviceData], contexts: Contexts, rng: np.random.Generator
) -> Tensor:
    """Compute the loss () of one step; the support and query examples are drawn anew in each step."""
    model = plan.model
    at = device_of(model.net)
    chosen = [devices[int(rng.integers(len(devices)))] for _ in range(plan.team.part(DEVICES_A_STEP))]
    supports, queries, labels, seen = [], [], [], []
    for device in chosen:
        sizes = training_sizes(plan.support)
        varied = variant(device, plan.augment, rng, sizes[-1] + QUERIES_A_DEVICE)
        order = rng.permutation(len(varied))
        size = min(sizes[rng.integers(len(sizes))], len(varied) // 2)
        supports.append(_features(model, varied, device, order[:size], contexts, condition))
        seen.append(examples.moved(examples.take(varied.inputs, order[:size]), at))
        rows = rng.choice(order[size:], QUERIES_A_DEVICE)
        queries.append(examples.moved(examples.take(varied.inputs, rows), at))
        labels.append(examples.moved(examples.take(varied.labels, rows), at))
    truths = None if plan.truths is None else [plan.truths[device.id] for device in chosen]
    hypernet = model.fitted.hypernets[condition]
    cast = torch.autocast(at.type, plan.precision) if plan.precision else nullcontext()
    with cast:
        values, adr = hypernet(model.inputs(supports, truths, training=True))
        if condition == "support":
            values = values | starting(model.fitted.start, model.net, seen)
        outputs = model.fitted.adapted[condition].batched(queries, values)
        total = torch.stack(
            [plan.loss(each, wanted) for each, wanted in zip(outputs, labels, strict=True)]
        ).mean()
    result: Tensor = total + BETA * adr
    return result


def _features(
    model: AdaptableModel,
    varied: DeviceData,
    device: DeviceData,
    rows: np.ndarray,
    contexts: Contexts,
    condition: str,
) -> np.ndarray:
    if condition != "support":  # other conditions read no features
        return np.zeros((1, len(model.fitted.uplink.mean)), np.float32)
    return contexts.of(device, rows) if varied is device else model.context_of(varied, rows)


def _uplink(model: AdaptableModel, devices: Sequence[DeviceData]) -> Uplink:
    """Fit the uplink to features of training devices, to at most 64 examples of each device."""
    sent = [sent_and_whole(model.context_of(device, slice(0, 64)))[0] for device in devices]
    features = np.concatenate(sent)
    if not np.isfinite(features).all():
        raise InputError(
            "the context features hold NaN or an infinity; check the inputs and the context module"
        )
    return Uplink.fit(features, min(UPLINK_DIM, features.shape[1]), standardize=True)


def _first(model: AdaptableModel, device: DeviceData) -> tuple[Any, Any]:
    """Return outputs and labels of a few examples, for choosing the default loss and score."""
    at = device_of(model.net)
    model.net.eval()
    with torch.no_grad():
        try:
            outputs = examples.call(model.net, examples.moved(examples.take(device.inputs, slice(0, 4)), at))
        except (TypeError, RuntimeError, ValueError) as error:
            raise InputError(
                f"the module cannot be called with the inputs of device {device.id!r}: {error}"
            ) from error
    check_rows(model.net, examples.moved(examples.take(device.inputs, slice(0, 4)), at), outputs)
    return outputs, examples.moved(examples.take(device.labels, slice(0, 4)), at)


@contextmanager
def _threads(net: nn.Module) -> Iterator[None]:
    """Use one thread for small modules: more threads would wait longer than they work."""
    with one_thread() if _is_small(net) else nullcontext():
        yield


def _is_small(net: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in net.parameters()) < 2_000_000


__all__ = ["CONDITIONS", "SeenDevicesWarning", "Supervised", "fit"]
