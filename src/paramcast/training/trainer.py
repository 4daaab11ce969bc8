"""Training for any module: the base cross-fitted, hypernetworks on episodes, a gain predictor; resumable.

A hypernetwork that learns on devices which its base module has learned from sees features that the base has
memorized, and ends below the base on new devices. So the base is either trained here, once for each fold of
the devices without it, or it comes trained on other devices.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.errors import InputError
from paramcast.files import check_same_run, write_json
from paramcast.hypernet import Hypernetwork
from paramcast.training import examples, gates
from paramcast.training.devices import DeviceData, check_devices, domains_of, folds_of
from paramcast.training.fitting import Schedule, one_thread
from paramcast.training.fitting import fit as fit_steps
from paramcast.training.model import CONDITIONS, UPLINK_DIM, AdaptableModel, _device_of, sent_and_whole
from paramcast.training.scores import Loss, Score, chosen_loss, chosen_score, primary
from paramcast.training.seeding import seed_from
from paramcast.training.start import starting
from paramcast.training.uplink import Uplink

STEPS = 400
SUPPORT = 8
"""Examples that devices adapt with, unless told otherwise."""
DEVICES_A_STEP = 16
QUERIES_A_DEVICE = 16
VALIDATIONS = 4
"""Validations of a hypernetwork: with more of them, one would be chosen for its luck."""
BETA = 0.8
"""Weight of the ADR's loss."""
FOLDS = 4

State = dict[str, Tensor]
FitBase = Callable[[nn.Module, Sequence[DeviceData]], None]
Augment = Callable[[DeviceData, np.random.Generator], DeviceData]


class SeenDevicesWarning(UserWarning):
    """The base module scores better on the training devices than on validation devices: it has seen them."""


@dataclass(frozen=True)
class Plan:
    """What every stage of one training run needs.

    Attributes:
        model: Trained in place.
        train, validation: Devices.
        loss, score: Of outputs and labels.
        augment: Makes a variant of a device for one step, or None.
        lessons: States of the base, each with the devices that it has not seen.
        final: The state of the base that is kept.
        truths: True domain by device id, or None.
        support: Examples that devices adapt with.
        steps, rate, seed: Of each hypernetwork.
        precision: A torch dtype for autocast, or None.
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
    """Train a model's hypernetworks, and the base module if asked.

    Args:
        model: Trained in place.
        train_devices: Devices that are learned from. With `base=False` the module must not have seen them.
        validation_devices: Others, which select the training step and calibrate the gain predictor.
        steps: Optimizer steps of each hypernetwork; None: 400.
        base: True: train the module, too, by AdamW on all examples. A function (module, devices) trains it in
            place; it is called for all devices and for all but each fold, from the same initial weights.
        augment: (device, generator) -> a variant of the device, drawn anew at every use: simulated devices.
        start: Whether updates start from what a device can do by itself: the free baseline that is best on
            validation devices, or an alignment of normalization statistics whose strengths are learned; it
            stays where no update is worth it. Such a model has no export yet.
        support: Examples that devices will adapt with; training draws fewer, too.
        folds: Folds of the devices for cross-fitting the base; fewer where there are fewer groups.
        rate: Peak learning rate.
        seed: Of everything.
        device: A torch device such as "cuda"; None: where the module is.
        precision: `torch.bfloat16` or `torch.float16` for mixed precision; None: none.
        folder: A folder for checkpoints: a killed run that is started again with it goes on. None: no
            checkpoints.

    Raises:
        InputError: Unusable devices, devices in both sets, or targets that cannot be adapted.
        TrainingDivergedError: The loss became infinite or NaN.
    """
    check_devices(train_devices, 2, "training")
    check_devices(validation_devices, support + 1, "validation")
    check_devices([*train_devices, *validation_devices], 2, "training and validation")
    if folds < 2:
        raise InputError(
            "folds must be 2 or more: a base that has seen every device has nothing left to teach"
        )
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
    from paramcast.training.evaluation import choose_free, choose_start

    with _work(folder, run) as work, _threads(model.net):
        outputs, labels = _first(model, train_devices[0])
        loss, score = chosen_loss(model.loss, outputs, labels), chosen_score(model.score, outputs, labels)
        model.loss, model.score = loss, score
        lessons = _bases(model, train_devices, base, loss, folds, seed, augment, work)
        if not base:
            _warn_if_seen(model, train_devices, validation_devices, score)
        check_score(model, validation_devices, score)
        example = examples.take(train_devices[0].inputs, slice(0, 4))
        batch = [
            examples.take(d.inputs, slice(0, min(4, len(d))))
            for d in [*train_devices, *validation_devices][:3]
        ]
        model.describer.prepare(model.net, examples.moved(example, _device_of(model.net)))
        known = domains_of([*train_devices, *validation_devices])
        names = _domain_names([*train_devices, *validation_devices])
        uplink = _uplink(model, train_devices)
        free = choose_free(model, train_devices, validation_devices, support, score)
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
            _copied(model.net),
            known,
            support,
            steps or STEPS,
            rate,
            seed,
            precision,
        )
        needed = [parameter.requires_grad for parameter in model.net.parameters()]
        model.net.requires_grad_(False)
        try:
            for condition in fitted.hypernets:
                fitted.adapted[condition].check([examples.moved(b, _device_of(model.net)) for b in batch])
                if start and condition == "support":
                    fitted.summary["start"] = choose_start(
                        model, lessons, validation_devices, support, loss, score, seed_from("start", seed)
                    )
                    model.begin_with_start()
                _fit_hypernet(plan, condition, work)
            _restore(model.net, plan.final)
            _fit_gate(plan)
        finally:
            _restore(model.net, plan.final)
            for parameter, before in zip(model.net.parameters(), needed, strict=True):
                parameter.requires_grad_(before)
            model.net.eval()
        fitted.summary |= _summary(plan)


def _fit_hypernet(plan: Plan, condition: str, work: Path) -> None:
    fitted = plan.model.fitted
    hypernet, contexts = fitted.hypernets[condition], _Contexts(plan.model)
    for device in () if plan.augment or condition != "support" else plan.train:
        contexts.keep(device)
    for device in plan.validation if condition == "support" else ():
        contexts.keep(device)
    last: list[int | None] = [None]

    def step(rng: np.random.Generator) -> Tensor:
        place = int(rng.integers(len(plan.lessons)))
        state, devices = plan.lessons[place]
        if place != last[0]:
            _restore(plan.model.net, state)
            last[0] = place
        return _lesson(plan, condition, devices, contexts, rng)

    def validate() -> float:
        _restore(plan.model.net, plan.final)
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
        work / f"hypernet-{condition}.safetensors",
    )


def _lesson(
    plan: Plan, condition: str, devices: Sequence[DeviceData], contexts: _Contexts, rng: np.random.Generator
) -> Tensor:
    """Compute the loss () of one step; support and query examples differ between steps."""
    model = plan.model
    at = _device_of(model.net)
    chosen = [devices[int(rng.integers(len(devices)))] for _ in range(DEVICES_A_STEP)]
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
    contexts: _Contexts,
    condition: str,
) -> np.ndarray:
    if condition != "support":  # which reads no features
        return np.zeros((1, len(model.fitted.uplink.mean)), np.float32)
    return contexts.of(device, rows) if varied is device else model.context_of(varied, rows)


class _Contexts:
    """Features of devices' examples by the final base, each computed once."""

    def __init__(self, model: AdaptableModel) -> None:
        self._model = model
        self._kept: dict[str, np.ndarray] = {}

    def keep(self, device: DeviceData) -> None:
        """Compute the features of all examples of a device."""
        if device.id not in self._kept:
            self._kept[device.id] = self._model.context_of(device)

    def of(self, device: DeviceData, rows: slice | np.ndarray) -> np.ndarray:
        """Return the features of some of a device's examples."""
        kept = self._kept.get(device.id)
        return self._model.context_of(device, rows) if kept is None else kept[rows]


def updates(
    model: AdaptableModel,
    devices: Sequence[DeviceData],
    support: int,
    condition: str,
    contexts: _Contexts | None = None,
    truths: dict[str, np.ndarray] | None = None,
    *,
    gated: bool = False,
) -> dict[str, Tensor]:
    """Generate update tensors (B, *shape) for B devices from their first `support` examples.

    Args:
        model: Fitted.
        devices: B of them.
        support: Examples of each.
        condition: Which hypernetwork.
        contexts: Features that are known already.
        truths: True domains by device id, for the oracle.
        gated: Whether the gain predictor may leave a device at the base.
    """
    known = contexts or _Contexts(model)
    blank = np.zeros((1, len(model.fitted.uplink.mean)), np.float32)
    sets = [known.of(d, slice(0, support)) if condition == "support" else blank for d in devices]
    told = None if truths is None else [truths[device.id] for device in devices]
    hypernet: Hypernetwork = model.fitted.hypernets[condition].eval()
    inputs = model.inputs(sets, told)
    with torch.no_grad():
        made = hypernet.gated(inputs) if gated else hypernet.values(hypernet.encode(inputs), inputs)
    if condition != "support":
        return made
    at = _device_of(model.net)
    seen = [examples.moved(examples.take(device.inputs, slice(0, support)), at) for device in devices]
    return made | starting(model.fitted.start, model.net, seen)


def scores_of(
    model: AdaptableModel,
    devices: Sequence[DeviceData],
    made: dict[str, Tensor] | None,
    skipped: int,
    score: Score,
    condition: str = "support",
) -> np.ndarray:
    """Score each device behind its first `skipped` examples: (B,) float64; without updates the base."""
    adapted, found = model.fitted.adapted[condition], []
    at = _device_of(model.net)
    model.net.eval()
    with torch.no_grad():
        for place, device in enumerate(devices):
            values = None if made is None else {name: value[place] for name, value in made.items()}
            parts = [
                adapted(examples.moved(examples.take(device.inputs, slice(start, start + 256)), at), values)
                for start in range(skipped, len(device), 256)
            ]
            wanted = examples.moved(examples.take(device.labels, slice(skipped, None)), at)
            found.append(score(examples.joined(parts) if len(parts) > 1 else parts[0], wanted))
    return np.array(found, np.float64)


def _bases(
    model: AdaptableModel,
    devices: Sequence[DeviceData],
    base: bool | FitBase,
    loss: Loss,
    folds: int,
    seed: int,
    augment: Augment | None,
    work: Path,
) -> list[tuple[State, Sequence[DeviceData]]]:
    """Return states of the base, each with devices that it has not seen; the module keeps the final one."""
    net = model.net
    if base is False:
        net.eval()
        return [(_copied(net), list(devices))]
    train_base: FitBase = base if callable(base) else Supervised(loss, augment=augment)
    initial = _copied(net)

    def trained(name: str, seen: Sequence[DeviceData]) -> State:
        # From the same weights and draws, so that the inner spaces of the bases are alike.
        path = work / f"base-{name}.pt.safetensors"
        _restore(net, initial)
        if path.exists():
            from safetensors.torch import load_file

            _restore(net, load_file(path))
        else:
            torch.manual_seed(seed_from("base", seed))
            train_base(net.train(), seen)
            from safetensors.torch import save_file

            from paramcast.files import replacing

            with replacing(path) as temporary:
                save_file({k: v.cpu().contiguous().clone() for k, v in net.state_dict().items()}, temporary)
        net.eval()
        return _copied(net)

    parts = folds_of(devices, folds, seed)
    lessons: list[tuple[State, Sequence[DeviceData]]] = []
    for place, fold in enumerate(parts):
        others = [device for other in parts if other is not fold for device in other]
        lessons.append((trained(str(place), others), fold))
    trained("all", devices)
    return lessons


@dataclass
class Supervised:
    """Trains a module in place by AdamW on batches of all devices' examples, every device equally often.

    Attributes:
        loss: Of outputs and labels.
        steps: Optimizer steps.
        batch: Examples a step.
        rate: Peak learning rate.
        augment: Makes a variant of a device; see `fit`.
    """

    loss: Loss
    steps: int = 400
    batch: int = 64
    rate: float = 2e-3
    augment: Augment | None = None

    def __call__(self, module: nn.Module, devices: Sequence[DeviceData]) -> None:
        """Train the module."""
        at = _device_of(module)
        trained = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        a_device = max(1, self.batch // 8)
        for _ in range(self.steps):
            parts = []
            for place in rng.integers(len(devices), size=max(1, self.batch // a_device)):
                device = variant(devices[place], self.augment, rng, 2 * a_device)
                rows = rng.integers(len(device), size=a_device)
                parts.append((examples.take(device.inputs, rows), examples.take(device.labels, rows)))
            inputs, labels = (examples.moved(examples.joined(each), at) for each in zip(*parts, strict=True))
            value = self.loss(examples.call(module, inputs), labels)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()


def variant(device: DeviceData, augment: Augment | None, rng: np.random.Generator, most: int) -> DeviceData:
    """Draw a variant of a device, of at most `most` of its examples: more would be changed in vain."""
    if augment is None:
        return device
    if len(device) > most:
        rows = np.sort(rng.choice(len(device), most, replace=False))
        device = replace(
            device,
            inputs=examples.take(device.inputs, rows),
            labels=examples.take(device.labels, rows),
            context=None if device.context is None else device.context[rows],
        )
    return augment(device, rng)


def training_sizes(support: int) -> list[int]:
    """Return the sizes of support sets that training draws: a device may have fewer examples, or more."""
    return sorted({1, max(1, support // 4), max(1, support // 2), support, 2 * support})


def validation_sizes(support: int) -> list[int]:
    """Return the sizes of support sets that select the training step and calibrate the gain predictor."""
    return sorted({max(1, support // 8), support})


def _uplink(model: AdaptableModel, devices: Sequence[DeviceData]) -> Uplink:
    """Fit the uplink to training devices' features, equally many of each."""
    sent = [sent_and_whole(model.context_of(device, slice(0, 64)))[0] for device in devices]
    features = np.concatenate(sent)
    if not np.isfinite(features).all():
        raise InputError(
            "the context features hold NaN or an infinity; check the inputs and the context module"
        )
    return Uplink.fit(features, min(UPLINK_DIM, features.shape[1]), standardize=True)


def _first(model: AdaptableModel, device: DeviceData) -> tuple[Any, Any]:
    """Return outputs and labels of a few examples: what loss and score are chosen by."""
    at = _device_of(model.net)
    model.net.eval()
    with torch.no_grad():
        try:
            outputs = examples.call(model.net, examples.moved(examples.take(device.inputs, slice(0, 4)), at))
        except (TypeError, RuntimeError, ValueError) as error:
            raise InputError(
                f"the module cannot be called with the inputs of device {device.id!r}: {error}"
            ) from error
    return outputs, examples.moved(examples.take(device.labels, slice(0, 4)), at)


def check_score(model: AdaptableModel, devices: Sequence[DeviceData], score: Score) -> None:
    """Find a score whose direction is wrong: outputs that belong to other examples must not score better.

    Raises:
        InputError: They do, clearly.
    """
    at = _device_of(model.net)
    true, mixed = [], []
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for device in devices:
            inputs = examples.moved(examples.take(device.inputs, slice(0, 256)), at)
            labels = examples.moved(examples.take(device.labels, slice(0, 256)), at)
            outputs = examples.call(model.net, inputs)
            if not isinstance(outputs, Tensor) and not isinstance(primary(outputs), Tensor):
                return
            try:
                other = examples.take(outputs, rng.permutation(examples.count(inputs)))
            except (IndexError, RuntimeError, TypeError):  # outputs without an axis of examples
                return
            true.append(score(outputs, labels))
            mixed.append(score(other, labels))
    gaps = score.sign * (np.array(true) - np.array(mixed))
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) > 2 and gaps.mean() < 0 and gaps.mean() + 3 * gaps.std(ddof=1) / np.sqrt(len(gaps)) < 0:
        raise InputError(
            f"score {score.name!r} is better for outputs of other examples: it seems that lower is better; "
            "give score=pc.Score(function, name, higher_is_better=False)"
        )


def _warn_if_seen(
    model: AdaptableModel, train: Sequence[DeviceData], validation: Sequence[DeviceData], score: Score
) -> None:
    """Compare the base's scores on both sets; two standard errors are more than chance."""
    known, new = (score.sign * _base_scores(model, each, score) for each in (train, validation))
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in (known, new) if len(each) > 1))
    if known.mean() - new.mean() > 2 * error > 0:
        warnings.warn(
            f"the base scores {score.sign * known.mean():.1f} on training devices and "
            f"{score.sign * new.mean():.1f} on validation devices: it seems to have been trained on "
            "the former, and a hypernetwork learns the wrong thing there; let fit(..., base=True) train it, "
            "or give devices that it has not seen",
            SeenDevicesWarning,
            stacklevel=4,
        )


def _base_scores(model: AdaptableModel, devices: Sequence[DeviceData], score: Score) -> np.ndarray:
    at, found = _device_of(model.net), []
    model.net.eval()
    with torch.no_grad():
        for device in devices:
            parts = [
                examples.call(
                    model.net, examples.moved(examples.take(device.inputs, slice(start, start + 256)), at)
                )
                for start in range(0, len(device), 256)
            ]
            found.append(
                score(
                    examples.joined(parts) if len(parts) > 1 else parts[0], examples.moved(device.labels, at)
                )
            )
    return np.array(found, np.float64)


def _fit_gate(plan: Plan) -> None:
    """Fit the gain predictor to what training devices gained, and calibrate it on validation devices."""
    model, hypernet = plan.model, plan.model.hypernet
    unit = _points(plan)

    def outcomes(devices: Sequence[DeviceData], size: int) -> gates.Outcomes:
        skipped = [min(size, len(device) // 2) for device in devices]
        contexts = [model.context_of(device, slice(0, n)) for device, n in zip(devices, skipped, strict=True)]
        inputs = model.inputs(contexts)
        with torch.no_grad():
            hidden = hypernet.eval().encode(inputs)
            made = hypernet.values(hidden, inputs)
        at = _device_of(model.net)
        seen = [
            examples.moved(examples.take(d.inputs, slice(0, n)), at)
            for d, n in zip(devices, skipped, strict=True)
        ]
        start = starting(model.fitted.start, model.net, seen)
        still = {
            k: v.expand(len(devices), *v.shape) for k, v in hypernet.adapter.base_values().items()
        } | start
        made |= start
        own, base = (
            np.array(
                [
                    scores_of(
                        model,
                        [d],
                        None if m is None else {k: v[i : i + 1] for k, v in m.items()},
                        n,
                        plan.score,
                    )[0]
                    for i, (d, n) in enumerate(zip(devices, skipped, strict=True))
                ]
            )
            for m in (made, still if start else None)
        )
        sign = plan.score.sign / unit
        return gates.Outcomes(
            hidden.cpu().numpy(), sign * (own - base), sign * base, tuple(d.id for d in devices)
        )

    parts = []
    for state, devices in plan.lessons:
        _restore(model.net, state)
        parts += [outcomes(devices, size) for size in training_sizes(plan.support)]
    _restore(model.net, plan.final)
    gates.fit_gate(hypernet, gates.joined(parts))
    gates.calibrate(
        hypernet, gates.joined(outcomes(plan.validation, size) for size in validation_sizes(plan.support))
    )


def _points(plan: Plan) -> float:
    """Return what counts as one point of the score: 1 for percent, a hundredth of the base's error else."""
    if plan.score.higher_is_better:
        return 1.0
    return max(1e-9, 0.01 * float(np.nanmean(_base_scores(plan.model, plan.validation, plan.score))))


def _summary(plan: Plan) -> dict[str, Any]:
    """Evaluate on validation devices, and say in words what that allows."""
    model = plan.model
    contexts = _Contexts(model)
    size = plan.support
    own = scores_of(
        model,
        plan.validation,
        updates(model, plan.validation, size, "support", contexts, gated=True),
        size,
        plan.score,
    )
    base = scores_of(model, plan.validation, None, size, plan.score)
    gain = plan.score.sign * float(np.nanmean(own - base))
    verdict = (
        f"on {len(plan.validation)} validation devices updates gain {gain:+.2f} {plan.score.name}"
        if gain > 0
        else f"no update beats the base on {len(plan.validation)} validation devices: "
        "devices keep the base; more training devices or another context= may help"
    )
    return {
        "score": plan.score.name,
        "higher_is_better": plan.score.higher_is_better,
        "base": round(float(np.nanmean(base)), 4),
        "own": round(float(np.nanmean(own)), 4),
        "verdict": verdict,
    }


def _domain_names(devices: Sequence[DeviceData]) -> tuple[str, ...]:
    if all(isinstance(device.domain, str | int) for device in devices):
        return tuple(sorted({str(device.domain) for device in devices}))
    return ()


def _copied(module: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _restore(module: nn.Module, state: State) -> None:
    """Copy a state into a module in place, so that replicas which share its tensors follow."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            value.copy_(state[name])


@contextmanager
def _work(folder: Path | str | None, run: dict[str, Any]) -> Iterator[Path]:
    """Give the folder of the checkpoints; it is removed when the run is complete."""
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    work = Path(folder)
    if (work / "run.json").exists():
        check_same_run(
            work, "a run", json.loads((work / "run.json").read_text(encoding="utf-8")), copy.deepcopy(run)
        )
    elif work.exists() and any(work.iterdir()):
        raise InputError(f"{work} holds other files; choose an empty folder for checkpoints")
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / "run.json", run)
    yield work
    shutil.rmtree(work)


@contextmanager
def _threads(net: nn.Module) -> Iterator[None]:
    """Use one thread for small modules: further threads would wait longer than they work."""
    small = sum(parameter.numel() for parameter in net.parameters()) < 2_000_000
    with one_thread() if small else nullcontext():
        yield


__all__ = ["CONDITIONS", "SeenDevicesWarning", "Supervised", "fit"]
