"""Gains of devices by their updates; the gates of `training.gates` are fitted on them."""

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
"""Number of further candidate clips of training devices in retrieval."""

Unedited = dict[tuple[int, str], float]
"""(id of the bank, name of the device) -> score without an update; valid for one state of the base model."""


def outcomes(
    task: Task,
    adaptor: FormHypernetwork,
    view: tuple[Bank, UplinkTable],
    devices: Sequence[DeviceData],
    gallery: Sequence[ClipData],
    supports: Sequence[int],
    known: Unedited | None = None,
) -> Outcomes:
    """Score every device with its update, without the gate, and with a refused update.

    Args:
        task: The task of the devices.
        adaptor: The hypernetwork that generates the updates.
        view: Features and uplink features.
        devices: The N devices.
        gallery: Further candidate clips in retrieval.
        supports: Support sizes; the devices have them in turn.
        known: Scores of the present base model without an update; new scores are added.
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
    # Devices of different folds may have the same id, but never the same clip.
    names = tuple(f"{device.device.id} {device.clips[0].clip_id}" for device in devices)
    own, refused = np.zeros(len(devices)), np.zeros(len(devices))
    for place, (device, name) in enumerate(zip(devices, names, strict=True)):
        package = one_of(packages, place)
        own[place] = task.mean_score(adaptor.adapted, package, bank, device, gallery)
        kept = None if adaptor.centre else known.get((id(bank), name))  # a refused update keeps its centre
        if kept is None:
            kept = task.mean_score(adaptor.adapted, package | unedited, bank, device, gallery)
            if not adaptor.centre:
                known[id(bank), name] = kept
        refused[place] = kept
    return Outcomes(hidden.numpy(), own - refused, refused, names)


def gate_lessons(
    adaptor: FormHypernetwork, lessons: Lessons, view: tuple[Bank, UplinkTable], known: Unedited | None = None
) -> Iterator[Outcomes]:
    """Yield outcomes of the devices of a fold.

    They are from shifted devices at every support size, and from as many plain devices, each at one size.
    """
    task, others = lessons.task, lessons.others[:GALLERY]
    for size in SUPPORT_SIZES:
        yield outcomes(task, adaptor, view, lessons.devices, others, [size], known)
    plain = lessons.plain[: len(SUPPORT_SIZES) * len(lessons.devices)]
    yield outcomes(task, adaptor, view, plain, others, SUPPORT_SIZES, known)
