"""Episodes for training hypernetworks: a device, a support set and a disjoint query set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paramcast.hypernet.context import ContextInputs
from paramcast.hypernet.forms import FormHypernetwork
from paramcast.training.seeding import seed_from
from paramcast.video.tasks import Task
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank, OffsetBank
from paramcast.video.training.fleets import by_kind
from paramcast.video.training.views import UplinkTable

SUPPORT_SIZES = (1, 2, 4, 8, 16)
DEVICES_A_STEP = 16
OFFSET_DIMS, OFFSET_SIZE = 32, 3.0


@dataclass(frozen=True)
class Lessons:
    """Devices and clips from which episodes are drawn.

    Attributes:
        task: The task.
        bank, table: Features and uplink features of all clips.
        devices: Devices with cameras or vocabularies.
        plain: Devices without them. If there were few, the hypernetwork would memorize their clips.
        plain_share: Share of episodes with plain devices.
        others: Clips of no device, as negative examples.
        devices_a_step: Number of episodes in a step.
    """

    task: Task
    bank: Bank
    table: UplinkTable
    devices: Sequence[DeviceData]
    plain: Sequence[DeviceData]
    plain_share: float
    others: Sequence[ClipData]
    devices_a_step: int = DEVICES_A_STEP

    def loss(self, adaptor: FormHypernetwork, rng: np.random.Generator, beta: float) -> Tensor:
        """Compute the loss () of one step: the task's loss on the query sets plus `beta` times the ADR's.

        Every device's clips are shuffled in each step, so that each episode has another support set.
        """
        chosen = [self._device(rng) for _ in range(self.devices_a_step)]
        supports, queries = [], []
        for device in chosen:
            order = rng.permutation(len(device.clips))
            size = min(SUPPORT_SIZES[rng.integers(len(SUPPORT_SIZES))], len(order) // 2)
            supports.append([device.clips[i] for i in order[:size]])
            queries.append([device.clips[i] for i in order[size:]])
        inputs = self.table.context(supports, [device.truth for device in chosen], training=True)
        bank = self.bank
        if self.task.offset_share:
            inputs, bank = self._moved(inputs, rng)
        values, adr = adaptor(inputs)
        cameras = [bool(device.device.cameras) for device in chosen]
        loss = self.task.episode_loss(adaptor.adapted, values, bank, queries, cameras, self.others, rng)
        total: Tensor = loss + beta * adr
        return total

    def _device(self, rng: np.random.Generator) -> DeviceData:
        if rng.random() < self.plain_share:
            return self.plain[int(rng.integers(len(self.plain)))]
        kind = self._kinds[int(rng.integers(len(self._kinds)))]
        return kind[int(rng.integers(len(kind)))]

    @cached_property
    def _kinds(self) -> list[list[DeviceData]]:
        return by_kind(self.devices)  # all kinds are drawn equally often

    def _moved(self, inputs: ContextInputs, rng: np.random.Generator) -> tuple[ContextInputs, Bank]:
        """Add a random offset to all features of some devices, as if these were from another collection.

        Each device has its own offset. Offsets are drawn along the leading directions of the features, with a
        size from 0 to `OFFSET_SIZE` standard deviations.
        """
        devices = len(inputs.anchors)
        size = rng.random((devices, 1)) * OFFSET_SIZE * (rng.random((devices, 1)) < self.task.offset_share)
        images, texts = (
            torch.from_numpy((rng.normal(size=(devices, OFFSET_DIMS)) * size).astype(np.float32))
            for _ in range(2)
        )
        dims = inputs.anchors.shape[-1], inputs.queries.shape[-1]
        up_images, up_texts = (
            F.pad(offsets, (0, dim - OFFSET_DIMS))[:, None]
            for offsets, dim in zip((images, texts), dims, strict=True)
        )
        assert inputs.clips is not None
        frame_offsets, text_offsets = self.table.lifted(images, texts)
        bank = OffsetBank(
            **{field.name: getattr(self.bank, field.name) for field in fields(self.bank)},
            frame_offsets=frame_offsets,
            text_offsets=text_offsets,
        )
        moved = replace(
            inputs,
            anchors=inputs.anchors + up_images,
            clips=inputs.clips + up_images,
            queries=inputs.queries + up_texts,
        )
        return moved, bank


def moved_view(bank: Bank, table: UplinkTable, seed: int) -> tuple[Bank, UplinkTable]:
    """Copy a bank and its table with one offset added to all features, as if from another collection."""
    rng = np.random.default_rng(seed_from("moved", seed))
    frame_offset, text_offset = table.lifted(
        *(
            torch.from_numpy(rng.normal(size=OFFSET_DIMS).astype(np.float32) * OFFSET_SIZE / 3)
            for _ in range(2)
        )
    )
    frames = (bank.frames + frame_offset) * bank.mask[..., None]
    moved = replace(bank, frames=frames, texts=bank.texts + text_offset)
    return moved, table.of(moved)


def generate(
    adaptor: FormHypernetwork,
    table: UplinkTable,
    devices: Sequence[DeviceData],
    support: int,
    *,
    gate: bool = True,
) -> dict[str, Tensor]:
    """Generate update tensors (N, *shape) for N devices from their first `support` support clips."""
    inputs = table.context(
        [device.clips[: min(support, device.support)] for device in devices],
        [device.truth for device in devices],
    )
    return adaptor.generate(inputs, gate=gate)


def one_of(packages: dict[str, Tensor], place: int) -> dict[str, Tensor]:
    """Select the update tensors of one device, with a device axis of 1."""
    return {name: tensor[place : place + 1] for name, tensor in packages.items()}
