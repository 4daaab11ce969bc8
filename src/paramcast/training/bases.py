"""The base module: cross-fitted over folds of the devices, or trained before and checked.

With cross-fitting, the base is trained once for each fold of the devices, without that fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paramcast.errors import InputError
from paramcast.files import replacing
from paramcast.training import examples
from paramcast.training.devices import DeviceData, folds_of
from paramcast.training.model import AdaptableModel, device_of
from paramcast.training.parallel import run_in_turn
from paramcast.training.scores import Loss, Score, primary
from paramcast.training.seeding import seed_from
from paramcast.training.team import ALONE, Team

State = dict[str, Tensor]
FitBase = Callable[[nn.Module, Sequence[DeviceData]], None]
"""Trains a module in place on devices."""
Augment = Callable[[DeviceData, np.random.Generator], DeviceData]
"""Makes a variant of a device."""
RunJobs = Callable[[Sequence[Callable[[], None]]], object]
"""Runs jobs that do not depend on each other."""


class SeenDevicesWarning(UserWarning):
    """The base module scores better on training devices than on validation devices: it has seen them."""


@dataclass
class Supervised:
    """Trains a module in place with AdamW on batches from all devices; every device is drawn equally often.

    Attributes:
        loss: (outputs, labels) -> scalar tensor.
        steps: Optimizer steps.
        batch: Examples per step.
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
        at = device_of(module)
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


def cross_fitted(
    model: AdaptableModel,
    devices: Sequence[DeviceData],
    base: bool | FitBase,
    loss: Loss,
    folds: int,
    seed: int,
    augment: Augment | None,
    work: Path,
    team: Team = ALONE,
    run_jobs: RunJobs = run_in_turn,
) -> list[tuple[State, Sequence[DeviceData]]]:
    """Train the base, and return its states, each with devices that it has not seen.

    With `base=False` nothing is trained, and the present state is returned with all devices.

    At the end the module has the state that was trained on all devices. The workers of a team divide the
    bases between them; each base is trained by one worker. Without a team, `run_jobs` trains the bases. But a
    training function of the user is run in turn, because it may start threads or keep a record.
    """
    net = model.net
    if base is False:
        net.eval()
        return [(copied(net), list(devices))]
    train_base: FitBase = base if callable(base) else Supervised(loss, augment=augment)
    initial = copied(net)

    def train(name: str) -> None:
        if file_of(name).exists():
            return
        # Equal initial weights and random draws keep the hidden spaces of the bases alike.
        restored_to(net, initial)
        torch.manual_seed(seed_from("base", seed))
        train_base(net.train(), seen[name])
        with replacing(file_of(name)) as temporary:
            save_file({k: v.cpu().contiguous().clone() for k, v in net.state_dict().items()}, temporary)

    def file_of(name: str) -> Path:
        return work / f"base-{name}.pt.safetensors"

    def trained(name: str) -> State:
        restored_to(net, load_file(file_of(name)))
        return copied(net)

    parts = folds_of(devices, folds, seed)
    seen: dict[str, Sequence[DeviceData]] = {
        str(place): [device for other in parts if other is not fold for device in other]
        for place, fold in enumerate(parts)
    }
    seen["all"] = devices
    names = list(seen)[team.rank :: team.size]
    (run_in_turn if callable(base) else run_jobs)([partial(train, name) for name in names])
    net.eval()
    mine = {name: trained(name) for name in names}
    states = {name: state for each in team.everyones(mine) for name, state in each.items()}
    restored_to(net, states["all"])
    return [(states[str(place)], fold) for place, fold in enumerate(parts)]


def variant(device: DeviceData, augment: Augment | None, rng: np.random.Generator, most: int) -> DeviceData:
    """Draw a variant of a device, with at most `most` of its examples: more would be changed in vain."""
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


def warn_if_seen(
    model: AdaptableModel, train: Sequence[DeviceData], validation: Sequence[DeviceData], score: Score
) -> None:
    """Warn with SeenDevicesWarning if the base scores clearly better on training than on validation devices.

    The difference must exceed two standard errors, which is more than chance.
    """
    known, new = (score.sign * base_scores(model, each, score) for each in (train, validation))
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in (known, new) if len(each) > 1))
    if known.mean() - new.mean() > 2 * error > 0:
        warnings.warn(
            f"the base scores {score.sign * known.mean():.1f} on training devices and "
            f"{score.sign * new.mean():.1f} on validation devices: it seems to have been trained on "
            "the training devices, and a hypernetwork learns wrong updates there; let fit(..., "
            "base=True) train it, or give devices that it has not seen",
            SeenDevicesWarning,
            stacklevel=4,
        )


def base_scores(model: AdaptableModel, devices: Sequence[DeviceData], score: Score) -> np.ndarray:
    """Score the base module on all examples of each device: (B,) float64."""
    at, found = device_of(model.net), []
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


def check_score(model: AdaptableModel, devices: Sequence[DeviceData], score: Score) -> None:
    """Check the direction of a score: outputs of other examples must not score better than the right outputs.

    Raises:
        InputError: They score better by more than three standard errors.
    """
    at = device_of(model.net)
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


def copied(module: nn.Module) -> State:
    """Copy the state of a module."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def restored_to(module: nn.Module, state: State) -> None:
    """Copy a state into a module in place, so that replicas which share its tensors change as well."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            value.copy_(state[name])
