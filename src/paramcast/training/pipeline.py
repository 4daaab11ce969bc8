"""Two-stage training: a base model, then its adaptors on clips that the base model has never seen.

An adaptor that is trained on clips which the base model was trained on learns from features that the base has
memorised, and ends below the base on new devices. So a quarter of the training clips is kept from the base
model, and the adaptors' devices are drawn from that quarter alone.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from paramcast.adaptor import Adaptor
from paramcast.data.cameras import CAMERA_DIMS
from paramcast.data.collection import Collection
from paramcast.data.features import FeatureStore
from paramcast.data.fleet import Device, split_clips
from paramcast.data.seeding import seed_from
from paramcast.data.vocabulary import VOCABULARY_WORDS, answer_words
from paramcast.encoders import image_encoder, text_encoder
from paramcast.errors import InputError
from paramcast.files import write_json
from paramcast.models.parts import FeatureNorm
from paramcast.training.episodes import Lessons, generate, score_devices
from paramcast.training.fitting import Schedule, fit
from paramcast.training.fleets import training_fleet
from paramcast.training.model import CONDITIONS, ModelConfig, TrainedModel
from paramcast.training.tasks import Task, make_task
from paramcast.training.uplink import IMAGE_DIM, TEXT_DIM, Uplink
from paramcast.training.views import UplinkTable, load_views

MAXIMUM_ANSWERS = 1000
VALIDATION_SUPPORTS = (1, 8)  # an adaptor has to do well with little and with much
ADAPTOR_PART = 4  # one training clip in so many is the adaptors'
SHIFTED_SHARE = 0.3  # of the base model's batches: clips as training devices see them
ITEMS_A_CLIP = 4  # of a training device's clip
BETA = 0.1  # weight of the ADR's loss


Row = TypeVar("Row")


@dataclass(frozen=True)
class TrainingOptions:
    """What a run is asked to do; a resumed run has to be asked the same.

    Attributes:
        task: 'qa' or 'retrieval'.
        form: Of the generated parameters.
        seed: Of splits, devices and training.
        image_encoder, text_encoder: Names of the trunks.
        frames, sampling: How frames are taken from a clip.
        devices: Training devices of the adaptors; the base model sees half as many of its own.
        adaptor_steps: Optimiser steps of each adaptor.
    """

    task: str
    form: str = "codes"
    seed: int = 0
    image_encoder: str = "efficientnet-lite0"
    text_encoder: str = "minilm-l6-int8"
    frames: int = 8
    sampling: str = "uniform"
    devices: int = 160
    adaptor_steps: int = 600


def train(collection: Collection, out: Path, options: TrainingOptions) -> TrainedModel:
    """Train a base model and its adaptors, and save them to `out`.

    A run that was killed goes on from its last checkpoint; a finished one is loaded.

    Raises:
        InputError: The collection does not serve the task, or `out` holds a run with other options.
    """
    run = {"collection": collection.name, "clips": len(collection.clips), **asdict(options)}
    if _same_run(out, run) and (out / "config.json").exists():
        return TrainedModel.load(out)
    work = out / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", run)
    data = _Data(collection, options)
    model = data.new_model()
    scores = {"base": _train_base(model, data, work)} | _train_adaptors(model, data, work)
    model.config = replace(model.config, scores=scores)
    model.save(out)
    shutil.rmtree(work)
    return model


def _same_run(out: Path, run: Mapping[str, object]) -> bool:
    path = out / "run.json"
    if not path.exists():
        return False
    before = json.loads(path.read_text(encoding="utf-8"))
    if before != run:
        changed = ", ".join(sorted(key for key in run if before.get(key) != run[key]))
        raise InputError(
            f"{out} holds a run with other settings ({changed}); choose another folder or remove it"
        )
    return True


class _Data:
    """Everything that training reads, as rows of features.

    Attributes:
        base_clips, base_devices: What the base model is trained on.
        adaptor_clips, devices: What the adaptors are trained on; they share no clip with the base model's.
        gallery, validation: What both are selected on.
    """

    def __init__(self, collection: Collection, options: TrainingOptions) -> None:
        self.options = options
        self.collection = collection
        self.task: Task = make_task(options.task)
        self.pools = {
            split: [clip for clip in clips if self.task.usable(collection.by_id[clip])]
            for split, clips in split_clips(collection, options.seed).items()
        }
        if not self.pools["train"] or not self.pools["validation"]:
            raise InputError(
                f"collection {collection.name!r} has too few clips for task {options.task!r}; "
                "see: paramcast data check"
            )
        parts: dict[bool, list[str]] = {True: [], False: []}
        for clip in self.pools["train"]:
            parts[seed_from("adaptor", options.seed, clip) % ADAPTOR_PART == 0].append(clip)
        self._parts = {"base": parts[False], "adaptor": parts[True]}
        self.answers = self._answers() if self.task.has_answers else ()
        self.categories = tuple(sorted({c.category for c in collection.clips if c.category}))
        self._load()

    def new_model(self) -> TrainedModel:
        """An untrained model with its norms and uplinks fitted."""
        frames = self.bank.all_frames([clip.row for clip in self.base_clips])
        rows = np.unique(np.concatenate([clip.items[:, 1] for clip in self.base_clips]))
        texts = self.bank.texts[rows]
        config = ModelConfig(
            task=self.options.task,
            form=self.options.form,
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
        )
        torch.manual_seed(seed_from("model", self.options.seed) % 2**62)
        image, text = Uplink.fit(frames.numpy(), IMAGE_DIM), Uplink.fit(texts.numpy(), TEXT_DIM)
        model = TrainedModel(config, image, text)
        for name, module in model.base.named_modules():
            if isinstance(module, FeatureNorm):
                module.fit(texts if name.endswith("text_norm") else frames)
        return model

    def _answers(self) -> tuple[str, ...]:
        counts = Counter(
            item.answer
            for clip in self.pools["train"]
            for item in self.task.items(self.collection.by_id[clip])
            if item.answer
        )
        common = [answer for answer, _ in counts.most_common(MAXIMUM_ANSWERS)]
        return (*common, *answer_words(common))

    def _load(self) -> None:
        counts = {"base": self.options.devices // 2, "adaptor": self.options.devices, "validation": 40}
        pools = {**self._parts, "validation": self.pools["validation"]}
        drawn = {name: self._draw(pools[name], counts[name], name) for name in counts}
        self.bank, clips, devices = load_views(
            _store(self.collection, self.options),
            self.collection,
            [clip for name in counts for clip in pools[name]],
            [device for name in counts for device in drawn[name]],
            self.task,
            {answer: number for number, answer in enumerate(self.answers)},
            self.categories,
            ITEMS_A_CLIP,
        )
        self.base_clips, self.adaptor_clips, self.gallery = _shared_out(
            clips, [len(pools[n]) for n in counts]
        )
        self.base_devices, self.devices, self.validation = _shared_out(
            devices, [len(drawn[name]) for name in counts]
        )

    def _draw(self, clips: Sequence[str], count: int, name: str) -> list[Device]:
        split = "validation" if name == "validation" else "train"
        seed = seed_from("devices", self.options.seed, name) % 2**31
        return training_fleet(self.collection, self.task, {split: clips}, max(1, count), seed, split)


def _shared_out(rows: list[Row], counts: Sequence[int]) -> list[list[Row]]:
    ends = np.cumsum(counts)
    return [rows[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _store(collection: Collection, options: TrainingOptions) -> FeatureStore:
    return FeatureStore(
        collection,
        image_encoder(options.image_encoder),
        text_encoder(options.text_encoder),
        options.frames,
        options.sampling,
    )


def _train_base(model: TrainedModel, data: _Data, work: Path) -> float:
    """Fit the base model to its clips as they are and as its devices see them."""
    shifted = [
        clip
        for device in data.base_devices
        if device.device.cameras or device.device.vocabulary
        for clip in device.clips
    ]

    def loss(rng: np.random.Generator) -> Tensor:
        clips = shifted if shifted and rng.random() < SHIFTED_SHARE else data.base_clips
        return data.task.base_loss(model.base, data.bank, clips, rng)

    def validate() -> float:
        return score_devices(data.task, model.adaptor, data.bank, data.validation, data.gallery, None)

    texts = sum(len(clip.items) + len(clip.hints) // 4 for clip in data.base_clips)
    every = max(1, texts // data.task.base_batch)
    schedule = Schedule(data.task.base_epochs * every, every)
    return fit("base", model.base, loss, validate, schedule, data.options.seed, work / "base.safetensors")


def _train_adaptors(model: TrainedModel, data: _Data, work: Path) -> dict[str, float]:
    """Fit each adaptor to devices whose clips the base model has not seen."""
    table = UplinkTable.build(data.bank, model.image_uplink, model.text_uplink)
    lessons = Lessons(data.task, data.bank, table, data.devices, data.adaptor_clips)
    model.base.requires_grad_(False)
    steps = data.options.adaptor_steps
    schedule = Schedule(steps, max(1, steps // 10))
    scores = {}
    for condition in CONDITIONS:
        adaptor = model.adaptors[condition]

        def loss(rng: np.random.Generator, adaptor: Adaptor = adaptor) -> Tensor:
            return lessons.loss(adaptor, rng, BETA)

        def validate(adaptor: Adaptor = adaptor) -> float:
            scores = []
            for support in VALIDATION_SUPPORTS:
                packages = generate(adaptor, table, data.validation, support)
                scores.append(
                    score_devices(data.task, adaptor, data.bank, data.validation, data.gallery, packages)
                )
            return float(np.mean(scores))

        name = f"adaptor ({condition})"
        checkpoint = work / f"adaptor-{condition}.safetensors"
        scores[condition] = fit(name, adaptor, loss, validate, schedule, data.options.seed, checkpoint)
    model.base.requires_grad_(True)
    return scores
