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


def outcomes(
    task: Task,
    adaptor: FormHypernetwork,
    view: tuple[Bank, UplinkTable],
    devices: Sequence[DeviceData],
    gallery: Sequence[ClipData],
    supports: Sequence[int],
) -> Outcomes:
    """Give every device its package, whatever the gate says, and look what comes of it.

    Args:
        task: Of the devices.
        adaptor: Makes the packages.
        view: Features, and their uplinks.
        devices: N of them.
        gallery: Clips that are looked through besides.
        supports: Support sizes, which devices have in turn.
    """
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
    scores = np.zeros((2, len(devices)))
    for place, device in enumerate(devices):
        package = one_of(packages, place)
        for row, values in zip(scores, (package, package | unedited), strict=True):
            row[place] = task.mean_score(adaptor.adapted, values, bank, device, gallery)
    own, refused = scores
    # Devices of two folds may have one name, and never one clip.
    names = tuple(f"{device.device.id} {device.clips[0].clip_id}" for device in devices)
    return Outcomes(hidden.numpy(), own - refused, refused, names)


def gate_lessons(
    adaptor: FormHypernetwork, lessons: Lessons, view: tuple[Bank, UplinkTable]
) -> Iterator[Outcomes]:
    """Outcomes of the devices of a fold: shifted ones at every support size, as many plain ones at one."""
    task, others = lessons.task, lessons.others[:GALLERY]
    for size in SUPPORT_SIZES:
        yield outcomes(task, adaptor, view, lessons.devices, others, [size])
    plain = lessons.plain[: len(SUPPORT_SIZES) * len(lessons.devices)]
    yield outcomes(task, adaptor, view, plain, others, SUPPORT_SIZES)
