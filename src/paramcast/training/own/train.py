"""Training the adaptors of a model of one's own: cross-fitted episodes, selected on validation devices."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.hypernet.forms import FormHypernetwork
from paramcast.training.fitting import Schedule, fit, one_thread
from paramcast.training.own.devices import OwnDevice, check_devices, folds_of, sent_and_whole
from paramcast.training.own.evaluate import Score, accuracy, packages, score_devices
from paramcast.training.own.model import OwnConfig, OwnModel
from paramcast.training.seeding import seed_from
from paramcast.training.uplink import Uplink
from paramcast.video.training.episodes import DEVICES_A_STEP, SUPPORT_SIZES
from paramcast.video.training.stages import BETA, VALIDATION_SUPPORTS, VALIDATIONS

QUERIES_A_DEVICE = 16
"""Examples of each device that a lesson asks about."""
_SKIPPED = max(VALIDATION_SUPPORTS)

FitBase = Callable[[nn.Module, Sequence[OwnDevice]], None]
Loss = Callable[[Tensor, Tensor], Tensor]
State = dict[str, Tensor]


class SeenDevicesWarning(UserWarning):
    """The base model does better on the adaptor's training devices than on others: it has seen them."""


@dataclass(frozen=True)
class OwnOptions:
    """What is adapted, and how adaptors are trained.

    Attributes:
        targets: Patterns of the target modules; see `select_targets`.
        form: Of the generated parameters.
        options: Of the form (`rank`, `count`).
        task: What you call what the model does.
        uplink_dim: Numbers that are sent of an example: the leading whitened directions of its features.
        steps: Optimizer steps of each adaptor.
        rate: Peak learning rate.
        folds: Base models that leave devices out, where the base can be trained anew.
        seed: Of everything.
    """

    targets: tuple[str, ...]
    form: str = "codes"
    options: dict[str, int] = field(default_factory=dict)
    task: str = "own"
    uplink_dim: int = 32
    steps: int = 400
    rate: float = 1e-3
    folds: int = 4
    seed: int = 0


def train_own(
    module: nn.Module,
    devices: Sequence[OwnDevice],
    validation: Sequence[OwnDevice],
    options: OwnOptions,
    *,
    fit_base: FitBase | None = None,
    loss: Loss = F.cross_entropy,
    score: Score = accuracy,
) -> OwnModel:
    """Train adaptors for a module, and with `fit_base` the module itself.

    An adaptor that learns on what its base model has learned by heart ends below the base model on new
    devices. So either give `fit_base`, and base models are trained which leave a fold of the devices out, for
    the adaptors to learn on; or give devices that the trained module has not seen.

    Args:
        module: Called with a device's inputs; gives outputs with the examples first, as `loss` takes them.
            Rows must not depend on each other, nor on their order.
        devices: What the adaptors learn from.
        validation: Others, by which they are selected.
        options: See there.
        fit_base: Trains a module in place on devices. It is called for all devices and for all but each fold,
            every time from the module's weights as they are now.
        loss: Of outputs and labels, a number to be made small; cross-entropy of classes if nothing is said.
        score: Of outputs and labels, higher is better; accuracy in percent if nothing is said.

    Returns:
        The module, trained if `fit_base` is given and else as it was, with its adaptors.

    Raises:
        InputError: Unusable devices, some in both sets, or targets and form that do not fit the module.
        TrainingDivergedError: The loss became infinite or NaN.
    """
    check_devices(devices, 2)
    check_devices(validation, _SKIPPED + 1)
    check_devices([*devices, *validation], 2)
    with one_thread():
        lessons = _bases(module, devices, options, fit_base)
        if fit_base is None:
            _warn_if_seen(module, devices, validation, score)
        model = _untrained(module, devices, options)
        needed = [parameter.requires_grad for parameter in module.parameters()]
        module.requires_grad_(False)
        final = copy.deepcopy(module.state_dict())
        try:
            for condition in model.adaptors:
                _fit_adaptor(model, condition, lessons, final, validation, options, loss, score)
        finally:
            module.load_state_dict(final)
            for parameter, before in zip(module.parameters(), needed, strict=True):
                parameter.requires_grad_(before)
    return model


def _bases(
    module: nn.Module, devices: Sequence[OwnDevice], options: OwnOptions, fit_base: FitBase | None
) -> list[tuple[State, list[OwnDevice]]]:
    """States of the base, each with devices that it has not seen; the final one is left in the module."""
    if fit_base is None:
        return [(copy.deepcopy(module.state_dict()), list(devices))]
    initial = copy.deepcopy(module.state_dict())

    def fitted(seen: Sequence[OwnDevice]) -> State:
        # From the same weights and draws, so that the inner spaces of the bases are alike.
        module.load_state_dict(initial)
        torch.manual_seed(seed_from("own base", options.seed))
        fit_base(module.train(), seen)
        return copy.deepcopy(module.eval().state_dict())

    folds = folds_of(devices, options.folds, options.seed)
    lessons = [(fitted([d for other in folds if other is not fold for d in other]), fold) for fold in folds]
    fitted(devices)
    return lessons


def _untrained(module: nn.Module, devices: Sequence[OwnDevice], options: OwnOptions) -> OwnModel:
    """The module with adaptors at their beginning; the uplink is fitted to the devices' features."""
    sent = np.concatenate([sent_and_whole(device.context)[0] for device in devices])
    truth = devices[0].truth
    config = OwnConfig(
        options.task,
        options.form,
        options.targets,
        options.uplink_dim,
        0 if truth is None else len(truth),
        options.options,
    )
    torch.manual_seed(seed_from("own adaptors", options.seed))
    return OwnModel(config, module, Uplink.fit(sent, options.uplink_dim))


def _fit_adaptor(
    model: OwnModel,
    condition: str,
    lessons: Sequence[tuple[State, Sequence[OwnDevice]]],
    final: State,
    validation: Sequence[OwnDevice],
    options: OwnOptions,
    loss: Loss,
    score: Score,
) -> None:
    adaptor = model.adaptors[condition]

    def step(rng: np.random.Generator) -> Tensor:
        state, devices = lessons[int(rng.integers(len(lessons)))]
        model.module.load_state_dict(state)
        return _lesson(model, adaptor, devices, rng, loss)

    def validate() -> float:
        model.module.load_state_dict(final)
        made = [packages(model, validation, size, condition) for size in VALIDATION_SUPPORTS]
        return float(np.mean([score_devices(adaptor, each, validation, _SKIPPED, score) for each in made]))

    schedule = Schedule(options.steps, max(1, options.steps // VALIDATIONS), options.rate)
    with tempfile.TemporaryDirectory() as work:
        checkpoint = Path(work) / "checkpoint.safetensors"
        fit(f"adaptor ({condition})", adaptor, step, validate, schedule, options.seed, checkpoint)


def _lesson(
    model: OwnModel,
    adaptor: FormHypernetwork,
    devices: Sequence[OwnDevice],
    rng: np.random.Generator,
    loss: Loss,
) -> Tensor:
    """The loss () of one step; which examples are support and which are asked differs between steps."""
    chosen = [devices[int(rng.integers(len(devices)))] for _ in range(DEVICES_A_STEP)]
    supports, asked = [], []
    for device in chosen:
        order = rng.permutation(len(device))
        size = min(SUPPORT_SIZES[rng.integers(len(SUPPORT_SIZES))], len(device) // 2)
        supports.append(device.context[order[:size]])
        asked.append(torch.from_numpy(rng.choice(order[size:], QUERIES_A_DEVICE)))
    values, adr = adaptor(model.inputs(supports, [device.truth for device in chosen], training=True))

    def drawn(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([tensor[rows] for tensor, rows in zip(tensors, asked, strict=True)])

    inputs = [drawn([device.inputs[i] for device in chosen]) for i in range(len(chosen[0].inputs))]
    with adaptor.adapted.use(values) as module:
        outputs = module(*inputs)
    total: Tensor = loss(outputs, drawn([device.labels for device in chosen])) + BETA * adr
    return total


def _warn_if_seen(
    module: nn.Module, devices: Sequence[OwnDevice], validation: Sequence[OwnDevice], score: Score
) -> None:
    """Compare the base model's scores on both sets; two standard errors are more than chance."""
    module.eval()
    with torch.no_grad():
        known, new = (
            np.array([score(module(*device.inputs), device.labels) for device in each])
            for each in (devices, validation)
        )
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in (known, new) if len(each) > 1))
    if known.mean() - new.mean() > 2 * error > 0:
        warnings.warn(
            f"the base model scores {known.mean():.1f} on the adaptor's training devices and "
            f"{new.mean():.1f} on validation devices: it seems to have been trained on the former, and an "
            "adaptor learns the wrong thing there; give fit_base, or devices that the base has not seen",
            SeenDevicesWarning,
            stacklevel=3,
        )
