"""What training reads: clips and devices as rows of features, in folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from paramcast.adaptor.adaptor import CENTRE_DIMS
from paramcast.data.cameras import CAMERA_DIMS
from paramcast.data.cloze import with_clozes
from paramcast.data.collection import Clip, Collection
from paramcast.data.fleet import Device, split_clips
from paramcast.data.seeding import seed_from
from paramcast.data.vocabulary import VOCABULARY_WORDS, answer_words
from paramcast.encoders import shared_dim
from paramcast.errors import InputError
from paramcast.models.parts import FeatureNorm
from paramcast.training.arrays import ClipData
from paramcast.training.fitting import Schedule
from paramcast.training.fleets import MIX, PLAIN, SPOILT, training_fleet
from paramcast.training.model import ModelConfig, TrainedModel, feature_store
from paramcast.training.options import TrainingOptions
from paramcast.training.tasks import Task, make_task
from paramcast.training.uplink import IMAGE_DIM, TEXT_DIM, Uplink
from paramcast.training.views import load_views

FOLDS = 4
"""Of the cross-fitting."""

MAXIMUM_ANSWERS = 1000
ITEMS_A_CLIP = 8  # of a training device's clip
SHIFTED_SHARE = 0.3  # of a base model's batches: clips as training devices see them
CLOZE_SHARE = 0.25  # likewise: questions made from captions
PLAIN_DEVICES = 5  # for each device asked for: they cost no features
PLAIN_SHARE = sum(PLAIN.values()) / sum(MIX.values())  # of the lessons
VALIDATION_DEVICES = 40  # or as many as there are training devices, if those are fewer


@dataclass(frozen=True)
class BaseLessons:
    """A base model's: clips as they are, as devices see them, and with questions made from captions."""

    plain: Sequence[ClipData]
    shifted: Sequence[ClipData]
    clozes: Sequence[ClipData]

    def schedule(self, task: Task) -> Schedule:
        """How long a base model learns: by the number of texts, a validation an epoch."""
        texts = sum(len(clip.items) + len(clip.hints) // 4 for clip in self.plain)
        epoch = max(1, texts // task.base_batch)
        return Schedule(task.base_epochs * epoch, epoch)

    def draw(self, rng: np.random.Generator) -> Sequence[ClipData]:
        """Where the next batch comes from."""
        place = rng.random()
        if place < SHIFTED_SHARE:
            return self.shifted or self.plain
        return (place < SHIFTED_SHARE + CLOZE_SHARE and self.clozes) or self.plain


class Material:
    """Everything that training reads: clips and devices as rows, by fold."""

    def __init__(self, collection: Collection, options: TrainingOptions) -> None:
        self.options = options
        self.collection = collection
        self.task: Task = make_task(options.task)
        splits = split_clips(collection, options.seed)
        self.pools = {
            split: [clip for clip in clips if self.task.usable(collection.by_id[clip])]
            for split, clips in splits.items()
        }
        if not self.pools["train"] or not self.pools["validation"]:
            raise InputError(
                f"collection {collection.name!r} has too few clips for task {options.task!r}; "
                "see: paramcast data check"
            )
        self.fold_of = {clip: seed_from("fold", options.seed, clip) % FOLDS for clip in self.pools["train"]}
        self.answers = self._answers() if self.task.has_answers else ()
        self.categories = tuple(sorted({c.category for c in collection.clips if c.category}))
        self._load(self._cloze_clips(splits["train"]))

    def new_model(self, options: TrainingOptions | None = None) -> TrainedModel:
        """An untrained model with its norms and uplinks fitted.

        Args:
            options: Where they differ from the material's own in the adaptors.
        """
        options = options or self.options
        frames = self.bank.all_frames([clip.row for clip in self.clips])
        rows = np.unique(np.concatenate([clip.items[:, 1] for clip in self.clips]))
        texts = self.bank.texts[rows]
        config = ModelConfig(
            task=self.options.task,
            form=options.form,
            image_encoder=self.options.image_encoder,
            text_encoder=self.options.text_encoder,
            image_dim=frames.shape[1],
            text_dim=texts.shape[1],
            frames=self.options.frames,
            sampling=self.options.sampling,
            answers=self.answers,
            categories=self.categories,
            seed=self.options.seed,
            clips=self.pools,
            collection=self.collection.name,
            truth_dim=len(self.categories) + CAMERA_DIMS + VOCABULARY_WORDS,
            shared_dim=self.shared_dim,
            form_options=self.task.form_options(options.form) | dict(options.form_options),
            evidence=options.evidence,
            anchors=options.anchors,
            centre_dims=CENTRE_DIMS,
        )
        torch.manual_seed(seed_from("model", self.options.seed) % 2**62)
        image, text = Uplink.fit(frames.numpy(), IMAGE_DIM), Uplink.fit(texts.numpy(), TEXT_DIM)
        model = TrainedModel(config, image, text)
        for name, module in model.base.named_modules():
            if isinstance(module, FeatureNorm):
                module.fit(texts if name.endswith("text_norm") else frames)
        return model

    def seen_by(self, fold: int | None) -> BaseLessons:
        """What the base model that leaves out `fold` may see."""
        plain = [clip for clip in self.clips if self.fold_of[clip.clip_id] != fold]
        shifted = [
            clip
            for other, devices in enumerate(self.devices)
            if other != fold
            for device in devices
            for clip in device.clips
        ]
        return BaseLessons(plain, shifted, self.clozes)

    def _answers(self) -> tuple[str, ...]:
        counts = Counter(
            item.answer
            for clip in self.pools["train"]
            for item in self.task.items(self.collection.by_id[clip])
            if item.answer
        )
        common = [answer for answer, _ in counts.most_common(MAXIMUM_ANSWERS)]
        return (*common, *answer_words(common))

    def _cloze_clips(self, train: Sequence[str]) -> list[Clip]:
        """Training clips that nobody asked about, with questions made from their captions."""
        if not self.task.has_answers:
            return []
        clips = [self.collection.by_id[clip] for clip in train]
        return with_clozes((clip for clip in clips if not self.task.usable(clip)), self.answers)

    def _load(self, made: Sequence[Clip]) -> None:
        """Draw the devices, and encode what they and the base models see; `made` are for the latter."""
        options, train = self.options, self.pools["train"]
        groups: list[list[Device]] = []
        counts = round((1 - PLAIN_SHARE) * options.devices), PLAIN_DEVICES * options.devices
        for mix, count in zip((SPOILT, PLAIN), counts, strict=True):
            for fold in range(FOLDS):
                pool = {"train": [clip for clip in train if self.fold_of[clip] == fold]}
                share, seed = max(1, count // FOLDS), options.seed * 1000 + fold * 10
                groups.append(training_fleet(self.collection, self.task, pool, share, seed, "train", mix))
        pool = {"validation": self.pools["validation"]}
        count = min(VALIDATION_DEVICES, options.devices)
        held = training_fleet(
            self.collection, self.task, pool, count, options.seed * 1000 + 999, "validation"
        )
        collection = self.collection.extended(made)
        store = feature_store(collection, options)
        self.shared_dim = shared_dim(store.image, store.text)
        self.bank, clips, devices = load_views(
            store,
            collection,
            [*train, *self.pools["validation"], *(clip.id for clip in made)],
            [*(device for group in groups for device in group), *held],
            self.task,
            {answer: number for number, answer in enumerate(self.answers)},
            self.categories,
            ITEMS_A_CLIP,
        )
        rest = iter(clips)
        self.clips = list(islice(rest, len(train)))
        self.gallery = list(islice(rest, len(self.pools["validation"])))
        self.clozes = list(rest)
        drawn = iter(devices)
        made_up = [list(islice(drawn, len(group))) for group in groups]
        self.devices, self.plain = made_up[:FOLDS], made_up[FOLDS:]
        self.validation = list(drawn)
