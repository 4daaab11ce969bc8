"""Training data: the clips and devices of a plan as rows of features, in folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from paramcast.hypernet.forms import CENTRE_DIMS
from paramcast.training.fitting import Schedule
from paramcast.training.seeding import seed_from
from paramcast.training.team import ALONE, Team
from paramcast.training.uplink import IMAGE_DIM, TEXT_DIM, Uplink
from paramcast.video.data.features import Known
from paramcast.video.encoders import shared_dim
from paramcast.video.models.parts import FeatureNorm
from paramcast.video.shifts.cameras import CAMERA_DIMS
from paramcast.video.shifts.vocabulary import VOCABULARY_WORDS
from paramcast.video.tasks import Task
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.fleets import by_kind
from paramcast.video.training.model import ModelConfig, TrainedModel, feature_store
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.plan import Plan

T = TypeVar("T")
SHIFTED_SHARE = 0.3  # of a base model's batches: clips in the view of training devices
CLOZE_SHARE = 0.25  # of a base model's batches: questions made from captions


@dataclass(frozen=True)
class BaseLessons:
    """Clips for training a base model: unchanged, in the view of devices, and with made questions."""

    plain: Sequence[ClipData]
    shifted: Sequence[ClipData]
    clozes: Sequence[ClipData]

    def schedule(self, task: Task, team: Team = ALONE) -> Schedule:
        """Compute the schedule of a base model from the number of texts of all workers.

        A validation follows every epoch.
        """
        texts = sum(team.everyones(sum(len(clip.items) + len(clip.hints) // 4 for clip in self.plain)))
        epoch = max(1, texts // task.base_batch)
        return Schedule(task.base_epochs * epoch, epoch)

    def draw(self, rng: np.random.Generator) -> Sequence[ClipData]:
        """Draw one of the three kinds of clips, for the next batch."""
        place = rng.random()
        if place < SHIFTED_SHARE:
            return self.shifted or self.plain
        return (place < SHIFTED_SHARE + CLOZE_SHARE and self.clozes) or self.plain


class Material:
    """All training data: clips and devices as rows of features, by fold.

    Args:
        plan: The plan of the training run.
        known: Features that other processes have encoded.

    Attributes:
        bank: Features of all rows.
        clips, gallery, clozes: Unchanged clips for training, unchanged clips for validation, and clips with
            made questions.
        devices, plain: For each fold, the devices with a camera or a vocabulary, and the devices without.
        validation: Devices of the validation clips.
    """

    def __init__(self, plan: Plan, known: Known = ()) -> None:
        self.plan, self.task, self.team = plan, plan.task, plan.team
        store = feature_store(plan.shown, plan.options)
        store.remember(known)
        self.shared_dim = shared_dim(store.image, store.text)
        self.bank, clips, devices = plan.views().load(store)
        rest = iter(clips)
        self.clips = _next(rest, plan.train)
        self.gallery = _next(rest, plan.pools["validation"])
        self.clozes = list(rest)
        drawn = iter(devices)
        self.devices = [_next(drawn, group) for group in plan.devices]
        self.plain = [_next(drawn, group) for group in plan.plain]
        self.validation = list(drawn)

    def new_model(self, options: TrainingOptions | None = None) -> TrainedModel:
        """Build an untrained model with fitted norms and uplinks; in a team, worker 0's clips are used.

        Args:
            options: Options of the hypernetworks; None: the plan's options.
        """
        plan = self.plan
        options = options or plan.options
        frames = self.bank.all_frames([clip.row for clip in self.clips])
        rows = np.unique(np.concatenate([clip.items[:, 1] for clip in self.clips]))
        texts = self.bank.texts[rows]
        config = ModelConfig(
            task=plan.options.task,
            form=options.form,
            image_encoder=plan.options.image_encoder,
            text_encoder=plan.options.text_encoder,
            image_dim=frames.shape[1],
            text_dim=texts.shape[1],
            frames=plan.options.frames,
            sampling=plan.options.sampling,
            answers=plan.answers,
            categories=plan.categories,
            seed=plan.options.seed,
            clips=plan.pools,
            collection=plan.collection.name,
            truth_dim=len(plan.categories) + CAMERA_DIMS + VOCABULARY_WORDS,
            shared_dim=self.shared_dim,
            form_options=self.task.form_options(options.form) | dict(options.form_options),
            evidence=options.evidence,
            anchors=options.anchors,
            centre_dims=CENTRE_DIMS,
        )
        torch.manual_seed(seed_from("model", plan.options.seed) % 2**62)
        fitted = Uplink.fit(frames.numpy(), IMAGE_DIM), Uplink.fit(texts.numpy(), TEXT_DIM)
        model = TrainedModel(config, *self.team.agreed(fitted))
        for name, module in model.base.named_modules():
            if isinstance(module, FeatureNorm):
                module.fit(texts if name.endswith("text_norm") else frames)
        self.team.align(model.base)
        return model

    def seen_by(self, fold: int | None) -> BaseLessons:
        """Return the clips for training the base model without `fold` (None: with all folds)."""
        plain = [clip for clip in self.clips if self.plan.fold_of[clip.clip_id] != fold]
        shifted = [
            clip
            for other, devices in enumerate(self.devices)
            if other != fold
            for device in _evenly(devices)
            for clip in device.clips
        ]
        return BaseLessons(plain, shifted, self.clozes)


def _evenly(devices: Sequence[DeviceData]) -> list[DeviceData]:
    """Keep the same number of devices of each kind: the number of the rarest kind."""
    kinds = by_kind(devices)
    return [device for kind in kinds for device in kind[: min(map(len, kinds))]]


def _next(items: Iterator[T], like: Sized) -> list[T]:
    return list(islice(items, len(like)))
