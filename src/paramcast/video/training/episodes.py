"""The adaptor's lessons: a device, a support set, a disjoint query set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

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
from paramcast.video.training.views import UplinkTable

SUPPORT_SIZES = (1, 2, 4, 8, 16)
DEVICES_A_STEP = 16
OFFSET_DIMS, OFFSET_SIZE = 32, 3.0


@dataclass(frozen=True)
class Lessons:
    """Where episodes are drawn from.

    Attributes:
        task: What devices do.
        bank, table: Features of all clips.
        devices: With cameras or vocabularies.
        plain: Without; of few such devices, the adaptor would memorize the clips.
        plain_share: Share of lessons that are about plain devices.
        others: Clips of nobody in particular.
        devices_a_step: Episodes in a step.
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
        """The loss () of one step: the task's on the query sets, and `beta` times the ADR's.

        Every device's clips are shuffled anew, so that which of them are support differs between episodes.
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
        devices = self.plain if rng.random() < self.plain_share else self.devices
        return devices[int(rng.integers(len(devices)))]

    def _moved(self, inputs: ContextInputs, rng: np.random.Generator) -> tuple[ContextInputs, Bank]:
        """Move all that some devices see by an offset of their own, as if they were of another collection.

        Offsets are drawn along the leading directions of the features, of a size between nothing and
        `OFFSET_SIZE` standard deviations.
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
    """A bank and its table as if they were of another collection: all features moved by one offset."""
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
    adaptor: FormHypernetwork, table: UplinkTable, devices: Sequence[DeviceData], support: int
) -> dict[str, Tensor]:
    """Package tensors (N, *shape) for N devices from their first `support` support clips."""
    inputs = table.context(
        [device.clips[: min(support, device.support)] for device in devices],
        [device.truth for device in devices],
    )
    return adaptor.generate(inputs)


def one_of(packages: dict[str, Tensor], place: int) -> dict[str, Tensor]:
    """The package of one device, with a device axis of 1."""
    return {name: tensor[place : place + 1] for name, tensor in packages.items()}
