"""What devices gain by their updates: what the gates of `training.gates` are fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np
import torch

from paramcast.hypernet.forms import FormHypernetwork
from paramcast.training.gates import Outcomes
from paramcast.video.tasks import Task
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.episodes import SUPPORT_SIZES, Lessons, one_of
from paramcast.video.training.views import UplinkTable

GALLERY = 64
"""Clips that training devices look through besides their own."""

Unedited = dict[tuple[int, str], float]
"""Scores of devices without an edit, by bank and device: they hold for one state of the base model."""


def outcomes(
    task: Task,
    adaptor: FormHypernetwork,
    view: tuple[Bank, UplinkTable],
    devices: Sequence[DeviceData],
    gallery: Sequence[ClipData],
    supports: Sequence[int],
    known: Unedited | None = None,
) -> Outcomes:
    """Give every device its package, whatever the gate says, and look what comes of it.

    Args:
        task: Of the devices.
        adaptor: Makes the packages.
        view: Features, and their uplinks.
        devices: N of them.
        gallery: Clips that are looked through besides.
        supports: Support sizes, which devices have in turn.
        known: Of the base model as it is; what is found is added.
    """
    known = {} if known is None else known
    bank, table = view
    sized = zip(devices, cycle(supports), strict=False)
    inputs = table.context(
        [device.clips[: min(size, device.support)] for device, size in sized],
        [device.truth for device in devices],
    )
    with torch.no_grad():
        hidden = adaptor.eval().encode(inputs)
        packages = adaptor.values(hidden, inputs)
    unedited = {name: value[None] for name, value in adaptor.unedited().items()}
    # Devices of two folds may have one name, and never one clip.
    names = tuple(f"{device.device.id} {device.clips[0].clip_id}" for device in devices)
    own, refused = np.zeros(len(devices)), np.zeros(len(devices))
    for place, (device, name) in enumerate(zip(devices, names, strict=True)):
        package = one_of(packages, place)
        own[place] = task.mean_score(adaptor.adapted, package, bank, device, gallery)
        kept = None if adaptor.centre else known.get((id(bank), name))  # a centre stays, and is the device's
        if kept is None:
            kept = task.mean_score(adaptor.adapted, package | unedited, bank, device, gallery)
            if not adaptor.centre:
                known[id(bank), name] = kept
        refused[place] = kept
    return Outcomes(hidden.numpy(), own - refused, refused, names)


def gate_lessons(
    adaptor: FormHypernetwork, lessons: Lessons, view: tuple[Bank, UplinkTable], known: Unedited | None = None
) -> Iterator[Outcomes]:
    """Outcomes of the devices of a fold: shifted ones at every support size, as many plain ones at one."""
    task, others = lessons.task, lessons.others[:GALLERY]
    for size in SUPPORT_SIZES:
        yield outcomes(task, adaptor, view, lessons.devices, others, [size], known)
    plain = lessons.plain[: len(SUPPORT_SIZES) * len(lessons.devices)]
    yield outcomes(task, adaptor, view, plain, others, SUPPORT_SIZES, known)
