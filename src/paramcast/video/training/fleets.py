"""Devices for training, with a mix of single and combined shifts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from paramcast.errors import InputError
from paramcast.video.data.collection import Collection
from paramcast.video.shifts.fleet import Device, Fleet, build_fleet
from paramcast.video.tasks import Task
from paramcast.video.training.arrays import DeviceData

Mix = dict[tuple[str, ...], float]

MIX: Mix = {
    (): 0.2,
    ("category",): 0.35,
    ("camera",): 0.15,
    ("vocabulary",): 0.15,
    ("category", "camera", "vocabulary"): 0.15,
}
"""Shifts -> share of the training devices with these shifts."""

SPOILT: Mix = {shifts: share for shifts, share in MIX.items() if "camera" in shifts}
"""The part of the mix with a camera. Each of these devices needs its own features of pictures."""

SPOKEN: Mix = {shifts: share for shifts, share in MIX.items() if shifts == ("vocabulary",)}
"""The part of the mix with a vocabulary alone. These devices need only their own features of texts."""

PLAIN: Mix = {shifts: share for shifts, share in MIX.items() if shifts not in SPOILT | SPOKEN}
"""The part of the mix without camera and vocabulary. These devices need no features of their own, so there
can be many of them."""

SUPPORT, QUERY = 16, 24
"""Numbers of support and query clips of a device; fewer if the pool is small."""


def training_fleet(
    collection: Collection,
    task: Task,
    pools: Mapping[str, Sequence[str]],
    devices: int,
    seed: int,
    split: str,
    mix: Mapping[tuple[str, ...], float] = MIX,
) -> list[Device]:
    """Draw about `devices` devices from the clips of one pool, in the shares of `mix`.

    If the pool's clips have no categories, the category shift is left out. With a small pool, devices have
    fewer clips.

    Raises:
        InputError: No clips for the task.
    """
    has_categories = any(collection.by_id[clip].category for clip in pools[split])
    support = max(1, min(SUPPORT, len(pools[split]) // 2))
    drawn: list[Device] = []
    for number, shifts in enumerate(MIX):
        if shifts not in mix:
            continue
        kept = tuple(shift for shift in shifts if shift != "category" or has_categories)
        count = max(1, round(devices * mix[shifts] / sum(mix.values())))
        fleet: Fleet = build_fleet(
            collection,
            shifts=kept,
            devices={split: count},
            seed=seed + number,
            support=support,
            query=max(1, min(QUERY, len(pools[split]) - support)),
            pools=pools,
            usable=task.usable,
        )
        name = "+".join(kept) or "none"
        drawn += [replace(device, id=f"{name}-{device.id}") for device in fleet.devices]
    if not drawn:
        raise InputError(f"collection {collection.name!r} has no clips for task {task.name!r}")
    return drawn


def kind_of(device: Device) -> str:
    """Return the shifts of a device of `training_fleet`, such as 'category+camera'."""
    return device.id.split("-")[0]


def by_kind(devices: Iterable[DeviceData]) -> list[list[DeviceData]]:
    """Group devices of `training_fleet` by their shifts."""
    kinds: dict[str, list[DeviceData]] = {}
    for device in devices:
        kinds.setdefault(kind_of(device.device), []).append(device)
    return list(kinds.values())
