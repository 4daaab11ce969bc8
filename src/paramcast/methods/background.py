"""Data of methods before any device asks: the model, its training clips, simulated training devices."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paramcast.errors import InputError
from paramcast.methods.meter import uncounted
from paramcast.training.seeding import seed_from
from paramcast.video.data.collection import Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.shifts.fleet import Device, Split
from paramcast.video.tasks.base import Asked
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.evaluate import draw_fleet
from paramcast.video.training.fleets import training_fleet
from paramcast.video.training.material import Material
from paramcast.video.training.model import ModelConfig, TrainedModel
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.plan import ITEMS_A_CLIP, Plan
from paramcast.video.training.views import UplinkTable, Views

REFERENCE_CLIPS = 256
"""Number of training clips for statistics of the training set."""

TRAINING_DEVICES = 20


@dataclass(frozen=True, eq=False)
class Samples:
    """Unchanged clips, and devices with their clips as their cameras see them, as rows of one bank.

    Attributes:
        bank, table: Features of the rows.
        clips, devices: Clips and devices that refer to the rows.
        collection: Source of the pictures.
    """

    bank: Bank
    table: UplinkTable
    clips: tuple[ClipData, ...]
    devices: tuple[DeviceData, ...]
    collection: Collection

    @property
    def asked(self) -> Asked:
        """Every question about the unchanged clips, or every caption and its clip."""
        items = np.concatenate([clip.items for clip in self.clips])
        return Asked(items[:, 0], items[:, 1], items[:, 3:])

    def pictures(self, row: int, config: ModelConfig) -> np.ndarray:
        """Read the frames (T, H, W, 3) uint8 of a row of the bank, as the cameras of its device see them."""
        clip, cameras, frame = list(self.bank.clip_rows)[row]
        shown = read_frames(self.collection.by_id[clip], config.frames, config.sampling)
        for camera in cameras:
            shown = camera.apply(shown)
        return shown if frame is None else shown[frame : frame + 1]


@dataclass(frozen=True, eq=False)
class Background:
    """The model, and the collection that it was trained on.

    Attributes:
        model: Never changed; methods change a copy of its base.
        collection: Collection of the training.
        shift: Shift by which training devices differ; None for the mix that the model was trained for.
        seed: Seed of the training devices.
        folder: Keeps models that take long to train, so that they are trained once.
    """

    model: TrainedModel
    collection: Collection
    shift: str | None
    seed: int
    folder: Path

    @cached_property
    def reference(self) -> Samples:
        """Some unchanged training clips, always the same ones."""
        order = sorted(self.model.config.clips["train"], key=lambda clip: seed_from("reference", clip))
        return load_samples(self.model, self.collection, order[:REFERENCE_CLIPS], ())

    @cached_property
    def training(self) -> Samples:
        """Simulated devices of the training clips, for methods that learn from many devices."""
        devices = self.draw("train", TRAINING_DEVICES, 0)
        return load_samples(self.model, self.collection, (), devices, ITEMS_A_CLIP)

    @cached_property
    def material(self) -> Material:
        """Training material of the base model, for methods that train other base models: clips and devices.

        Raises:
            InputError: The collection has changed since the model was trained.
        """
        config = self.model.config
        options = TrainingOptions(
            config.task,
            config.form,
            config.seed,
            image_encoder=config.image_encoder,
            text_encoder=config.text_encoder,
            frames=config.frames,
            sampling=config.sampling,
            devices=TRAINING_DEVICES,
        )
        plan = Plan(self.collection, options)
        pools = all(list(plan.pools[split]) == list(config.clips[split]) for split in ("train", "validation"))
        if not pools or plan.answers != config.answers:
            raise InputError(
                f"{self.collection.root} has changed since the model was trained: methods that "
                "train their own base model need the same clips"
            )
        return Material(plan)

    def draw(self, split: Split, count: int, support: int) -> tuple[Device, ...]:
        """Draw about `count` devices of the clips of 'train' or 'validation'."""
        clips = self.model.config.clips[split]
        if self.shift is None:
            pool: dict[str, Sequence[str]] = {split: clips}
            return tuple(training_fleet(self.collection, self.model.task, pool, count, self.seed, split))
        support = support or min(16, len(clips) // 2)
        return draw_fleet(
            self.model, self.collection, split, clips, self.shift, count, support, self.seed
        ).devices

    def module(self) -> nn.Module:
        """Copy the base model, in evaluation mode. The copy may be changed."""
        with uncounted():  # a real device would change its model in place
            return deepcopy(self.frozen)

    @cached_property
    def frozen(self) -> nn.Module:
        """The base model in evaluation mode; it must not be changed."""
        # It is built anew, since the base in the model carries the hooks of its adaptors.
        config = self.model.config
        with torch.random.fork_rng():
            built = self.model.task.build(
                config.image_dim, config.text_dim, config.shared_dim, config.answers
            )
        built.load_state_dict(self.model.base.state_dict())
        return built.eval().requires_grad_(False)


def load_samples(
    model: TrainedModel,
    collection: Collection,
    clips: Sequence[str],
    devices: Sequence[Device],
    items_a_clip: int | None = None,
) -> Samples:
    """Encode unchanged clips and the clips of devices; see `training.views.Views`."""
    bank, plain, data = Views(
        collection,
        clips,
        devices,
        model.task,
        model.answer_numbers,
        model.config.categories,
        items_a_clip,
    ).load(model.store(collection))
    table = model.table(bank)
    if model.config.task == "retrieval":
        bank = _pooled(bank)
    return Samples(bank, table, tuple(plain), tuple(data), collection)


def _pooled(bank: Bank) -> Bank:
    """Replace the frames of a row by their mean, which is all that the retrieval model uses of a clip.

    It takes an eighth of the work.
    """
    means = torch.from_numpy(bank.means())[:, None]
    return replace(bank, frames=means, mask=torch.ones(means.shape[:2], dtype=torch.bool))
