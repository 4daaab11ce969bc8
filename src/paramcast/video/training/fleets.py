"""The devices that a model is trained for: a mix of shifts, alone and combined."""

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
"""Shifts -> share of the devices that lessons are about."""

SPOILT: Mix = {shifts: share for shifts, share in MIX.items() if "camera" in shifts}
"""Devices with a camera: each costs features of pictures."""

SPOKEN: Mix = {shifts: share for shifts, share in MIX.items() if shifts == ("vocabulary",)}
"""Devices that see clips as they are and have words of their own: they cost features of texts alone."""

PLAIN: Mix = {shifts: share for shifts, share in MIX.items() if shifts not in SPOILT | SPOKEN}
"""Devices that see and hear clips as they are cost no features, so there can be many of them."""

SUPPORT, QUERY = 16, 24
"""Clips a device, where the pool has enough."""


def training_fleet(
    collection: Collection,
    task: Task,
    pools: Mapping[str, Sequence[str]],
    devices: int,
    seed: int,
    split: str,
    mix: Mapping[tuple[str, ...], float] = MIX,
) -> list[Device]:
    """Draw `devices` devices from the clips of one pool, in the shares of `mix`.

    Without categories in the collection the category shift falls away. Devices of a small pool have fewer
    clips.
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
    """The shifts of a device of `training_fleet`, such as 'category+camera'."""
    return device.id.split("-")[0]


def by_kind(devices: Iterable[DeviceData]) -> list[list[DeviceData]]:
    """Group devices of `training_fleet` by the shifts that they have."""
    kinds: dict[str, list[DeviceData]] = {}
    for device in devices:
        kinds.setdefault(kind_of(device.device), []).append(device)
    return list(kinds.values())
