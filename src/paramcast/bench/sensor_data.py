"""Sets of real users' signals: `*.npz` files, in which each user is one device.

The layout of the files: a real value is `signals * scale` (+ `shift`). If there are `offsets`, `signals` is
(samples, channels) and recording i is `signals[offsets[i]:offsets[i+1]]`, with a label for each sample and a
user for each recording. Otherwise the first axis of `signals`, `labels` and `users` counts examples.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.errors import InputError
from paramcast.training.devices import DeviceData
from paramcast.training.scores import Score
from paramcast.training.seeding import generator_for

HELD_BACK = 3
"""About one user of this number is kept for testing where no other users are given."""
LEAST = 1.5
"""A user with fewer examples than this multiple of the support set is left out."""


@dataclass(frozen=True)
class Task:
    """Way to make examples from a set.

    Attributes:
        window: Samples of a window; None: a recording, or a row of `signals`, is an example.
        hop: Samples from a window to the next; None: windows do not overlap.
        length: Samples of an example that is a whole recording, either its middle or stretched to this
            length.
        middle: Whether the middle of a recording is taken; otherwise the whole is stretched.
        left_out: Classes that are no part of the task.
        support: Examples that a device adapts with.
        most: Largest number of examples of a user; more are thinned out evenly.
        regression: Whether labels are numbers.
    """

    window: int | None = None
    hop: int | None = None
    length: int = 0
    middle: bool = False
    left_out: tuple[str, ...] = ()
    support: int = 32
    most: int = 300
    regression: bool = False


_POSTURES = ("stand_to_sit", "sit_to_stand", "sit_to_lie", "lie_to_sit", "stand_to_lie", "lie_to_stand")
TASKS: dict[str, Task] = {
    "phone_watch": Task(window=50, hop=25, support=16),
    "hapt": Task(window=128, left_out=_POSTURES),
    "wisdm_watch": Task(window=100),
    "sisfall": Task(length=300, middle=True),
    "myo_emg": Task(window=10, left_out=("rest",)),
    "utd_mhad": Task(length=128),
    "dsp_speech": Task(),
    "metabolics": Task(regression=True),
    "sign_digits": Task(support=4),
}
"""The known sets. All samples of a window have the same label."""

WATTS = 100.0
"""Unit of the learned numbers, in watts."""


def _watts(outputs: Any, labels: Any) -> float:
    return WATTS * float((outputs.float().reshape(labels.shape) - labels).abs().mean())


WATT_ERROR = Score(_watts, "mean_absolute_error_watts", higher_is_better=False)


@dataclass(frozen=True)
class SensorSet:
    """A set in the form of devices.

    Attributes:
        name: The file's name without its ending.
        devices: The users, by id; the examples of each user in a random order.
        classes: Number of classes; 0 for numbers.
        task: How the examples were made.
    """

    name: str
    devices: tuple[DeviceData, ...]
    classes: int
    task: Task

    @property
    def score(self) -> str | Score:
        """The score of devices."""
        return "accuracy" if self.classes else WATT_ERROR


def read_set(path: Path, seed: int = 0) -> SensorSet:
    """Read one set.

    Args:
        path: A `*.npz` file, named after the set.
        seed: Seed of the order of each user's examples.

    Raises:
        InputError: An unknown set, or a file without the layout above.
    """
    name = path.stem
    if name not in TASKS:
        raise InputError(f"{path}: no set is called {name!r}; known sets are: {', '.join(TASKS)}")
    task = TASKS[name]
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files if not key.startswith(("skeleton", "depth"))}
        classes = [str(each) for each in arrays.get("classes", ())]
        examples = _recorded(arrays, task, classes) if "offsets" in arrays else _counted(arrays, task)
    except KeyError as error:
        raise InputError(
            f"{path} has no array {error}; it does not have the layout of sensor sets"
        ) from error
    except (OSError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a sensor set: {error}") from error
    kept = [place for place, each in enumerate(classes) if each not in task.left_out]
    if not task.regression:
        number = np.full(len(classes) + 1, -1)
        number[kept] = np.arange(len(kept))
        examples = {user: (inputs, number[labels]) for user, (inputs, labels) in examples.items()}
    devices = tuple(
        made
        for user in sorted(examples)
        if (made := _device(name, user, *examples[user], task, seed)) is not None
    )
    if len(devices) < 2:
        raise InputError(
            f"{path}: fewer than two users have more examples than the {task.support} of the support set"
        )
    return SensorSet(name, devices, 0 if task.regression else len(kept), task)


def list_sets(folder: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """List the sets of a folder by name: all sets, or the named ones.

    Raises:
        InputError: There are no sets, or a named set is missing.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{folder} has no {missing[0]}.npz; it has: {', '.join(found) or 'none'}")
    chosen = {name: path for name, path in found.items() if not names or name in names}
    if not chosen:
        raise InputError(f"{folder} holds no *.npz file")
    return chosen


def is_held_back(set_name: str, user: str, share: int = HELD_BACK) -> bool:
    """Decide by a hash of the user's id whether a user is for testing."""
    digest = hashlib.sha256(f"{set_name}/{user}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % share == 0


def split(
    devices: Sequence[DeviceData], set_name: str, share: int = HELD_BACK
) -> tuple[list[DeviceData], list[DeviceData]]:
    """Divide users into two parts by a hash of the id: the greater part, and about one user of `share`.

    Each part gets at least two users; with only three users, the second part may get one.
    """
    ranked = sorted(devices, key=lambda d: hashlib.sha256(f"{set_name}/{d.id}".encode()).digest())
    held = [device for device in devices if is_held_back(set_name, device.id, share)]
    least = 2 if len(devices) > 3 else 1
    if len(held) < least or len(devices) - len(held) < 2:
        held = ranked[: max(least, round(len(devices) / share))]
    ids = {device.id for device in held}
    return [device for device in devices if device.id not in ids], held


Examples = dict[str, tuple[tuple[np.ndarray, ...], np.ndarray]]


def _values(arrays: Mapping[str, np.ndarray], signals: np.ndarray) -> np.ndarray:
    values: np.ndarray = signals.astype(np.float32) * arrays["scale"] + arrays.get("shift", np.float32(0))
    return values.astype(np.float32)


def _recorded(arrays: Mapping[str, np.ndarray], task: Task, classes: Sequence[str]) -> Examples:
    """Cut recordings into examples (N, channels, samples)."""
    offsets, labels = arrays["offsets"], arrays["labels"].astype(np.int64)
    left_out = {classes.index(each) for each in task.left_out if each in classes} | {-1}
    found: dict[str, tuple[list[np.ndarray], list[int]]] = {}
    for place, user in enumerate(arrays["users"]):
        start, stop = offsets[place], offsets[place + 1]
        signal = _values(arrays, arrays["signals"][start:stop])
        own = labels[start:stop]
        windows, wanted = found.setdefault(str(user), ([], []))
        if task.window is None:
            windows.append(_middle(signal, task.length) if task.middle else _stretched(signal, task.length))
            wanted.append(int(own[len(own) // 2]))
            continue
        for at in range(0, len(own) - task.window + 1, task.hop or task.window):
            part = own[at : at + task.window]
            if part[0] not in left_out and (part == part[0]).all():
                windows.append(signal[at : at + task.window])
                wanted.append(int(part[0]))
    return {
        user: ((np.stack(windows).transpose(0, 2, 1),), np.array(wanted))
        for user, (windows, wanted) in found.items()
        if windows
    }


def _counted(arrays: Mapping[str, np.ndarray], task: Task) -> Examples:
    """Group rows by user: spectrograms, photos (N, 1, height, width), or cycles (N, channels, points)."""
    values = _values(arrays, arrays["signals"])
    if task.regression:
        inputs: tuple[np.ndarray, ...] = (values.transpose(0, 2, 1), arrays["static"].astype(np.float32))
        labels = arrays["labels"].astype(np.float32) / WATTS
    else:
        if min(values.shape[1:]) >= 64:  # photos: half the resolution
            n, height, width = values.shape
            values = values.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))
        inputs, labels = (values[:, None],), arrays["labels"].astype(np.int64)
    users = arrays["users"].astype(str)
    return {
        user: (tuple(each[users == user] for each in inputs), labels[users == user])
        for user in np.unique(users).tolist()
    }


def _middle(signal: np.ndarray, length: int) -> np.ndarray:
    if len(signal) < length:
        signal = np.pad(signal, ((0, length - len(signal)), (0, 0)), mode="edge")
    start = (len(signal) - length) // 2
    return signal[start : start + length]


def _stretched(signal: np.ndarray, length: int) -> np.ndarray:
    at, wanted = np.arange(len(signal)), np.linspace(0, len(signal) - 1, length)
    return np.stack([np.interp(wanted, at, column) for column in signal.T], 1).astype(np.float32)


def _device(
    name: str, user: str, inputs: tuple[np.ndarray, ...], labels: np.ndarray, task: Task, seed: int
) -> DeviceData | None:
    """Make a user's device: evenly thinned, in random order; None with too few examples."""
    known = np.flatnonzero(np.isfinite(labels) if task.regression else labels >= 0)
    kept = (
        known[np.unique(np.linspace(0, len(known) - 1, min(task.most, len(known))).astype(int))]
        if len(known)
        else known
    )
    if len(kept) < LEAST * task.support:
        return None
    rows = generator_for("sensors", name, user, seed).permutation(kept)
    return DeviceData(
        user, tuple(np.ascontiguousarray(each[rows]) for each in inputs), labels[rows], group=user
    )
