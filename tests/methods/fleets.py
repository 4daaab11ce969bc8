"""A tiny model of each task, and devices with random features instead of encoded pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from paramcast.methods.background import Background, Samples
from paramcast.training.uplink import Uplink
from paramcast.video.data.collection import Collection
from paramcast.video.shifts.fleet import Device
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.material import Material
from paramcast.video.training.model import ModelConfig, TrainedModel
from paramcast.video.training.plan import Plan
from paramcast.video.training.views import UplinkTable

IMAGE, TEXT, FRAMES, ANSWERS, OPTIONS = 20, 12, 3, 7, 4
CLIPS, QUESTIONS, SUPPORT = 14, 3, 6
TASKS = ("qa", "choice", "retrieval")


def tiny_model(task: str) -> TrainedModel:
    """Make a model with random parameters, so that updates, steps and statistics change its outputs."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = ModelConfig(
        task=task,
        form="codes",
        image_encoder="efficientnet-lite0",
        text_encoder="minilm-l6-int8",
        image_dim=IMAGE,
        text_dim=TEXT,
        frames=FRAMES,
        sampling="uniform",
        answers=tuple(f"answer {number}" for number in range(ANSWERS)) if task != "retrieval" else (),
        categories=(),
        seed=0,
        clips={"train": (), "validation": (), "test": ()},
        collection="none",
        truth_dim=1,
    )
    uplinks = [Uplink.fit(rng.normal(size=(60, dim)).astype(np.float32), 16) for dim in (IMAGE, TEXT)]
    model = TrainedModel(config, *uplinks)
    for parameter in model.adaptor.fda.generator.heads.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def tiny_collection(folder: Path) -> Collection:
    """Make clips of three small pictures, the same in all clips, for methods that read pictures."""
    rng = np.random.default_rng(0)
    for number in range(FRAMES):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{number}.png")
    frames = [f"{number}.png" for number in range(FRAMES)]
    lines = [json.dumps({"id": f"clip-{row}", "frames": frames}) for row in range(4 * CLIPS)]
    (folder / "clips.jsonl").write_text("\n".join(lines))
    return Collection.open(folder)


def tiny_samples(model: TrainedModel, devices: int, seed: int, collection: Collection) -> Samples:
    """Make plain clips, and devices with other clips, with features of another mean and deviation.

    Labels can be learned: most answers are the same, the right option is the largest in one feature, and
    captions are noisy projections of their clips' features.
    """
    rng = np.random.default_rng(seed)
    said = np.random.default_rng(0).normal(size=(IMAGE, TEXT)) * IMAGE**-0.5
    rows, texts, clips = [], [], []
    for place in range(CLIPS * (devices + 1)):
        owner = place // CLIPS
        rows.append(rng.normal(0.3 * owner, 1 + 0.2 * owner, (FRAMES, IMAGE)))
        words = rng.normal(0.2 * owner, 1, (4 * QUESTIONS, TEXT))
        if model.config.task == "retrieval":
            words = 0.3 * words + rows[-1].mean(0) @ said
        clips.append(_clip(model.config.task, place, len(texts), words, rng))
        texts.extend(words)
    bank = Bank(
        torch.tensor(np.array(rows), dtype=torch.float32),
        torch.ones(len(rows), FRAMES, dtype=torch.bool),
        {(f"clip-{row}", (), None): row for row in range(len(rows))},
        torch.tensor(np.array(texts), dtype=torch.float32),
        {f"text {row}": row for row in range(len(texts))},
    )
    data = []
    for number in range(devices):
        own = tuple(clips[CLIPS * (number + 1) : CLIPS * (number + 2)])
        ids = tuple(clip.clip_id for clip in own)
        device = Device(f"test-{number:04d}", "test", ids[:SUPPORT], ids[SUPPORT:], (), None, {}, "none")
        data.append(DeviceData(device, own, SUPPORT, np.zeros(1, np.float32)))
    table = UplinkTable.build(bank, model.image_uplink, model.text_uplink)
    return Samples(bank, table, tuple(clips[:CLIPS]), tuple(data), collection)


def tiny_background(model: TrainedModel, collection: Collection) -> Background:
    """Make a background with random training clips and devices; it keeps models beside the clips."""
    background = Background(model, collection, None, 0, collection.root)
    # The cached properties keep their values here.
    background.__dict__["reference"] = tiny_samples(model, 0, 1, collection)
    background.__dict__["training"] = tiny_samples(model, 3, 2, collection)
    background.__dict__["material"] = _material(model, background.training)
    return background


def _material(model: TrainedModel, samples: Samples) -> Material:
    """Make training data: two devices in one fold, and a third device for validation."""
    made = Material.__new__(Material)  # the constructor would read a collection
    made.task, made.bank, made.clips = model.task, samples.bank, list(samples.clips)
    made.gallery, made.clozes = list(samples.clips), []
    made.plan = Plan.__new__(Plan)
    made.plan.fold_of = {clip.clip_id: 0 for clip in samples.clips}
    first, second, third = samples.devices
    made.devices, made.plain, made.validation = [[first]], [[second]], [third]
    return made


def _clip(task: str, row: int, first: int, words: np.ndarray, rng: np.random.Generator) -> ClipData:
    texts = np.arange(first, first + QUESTIONS)
    if task == "retrieval":
        items = np.array([[row, first, -1]])
        return ClipData(f"clip-{row}", row, texts[:1], items, np.arange(first + 1, first + QUESTIONS))
    right = np.where(rng.random(QUESTIONS) < 0.8, 1, rng.integers(ANSWERS, size=QUESTIONS))
    columns = [np.full(QUESTIONS, row), texts, right]
    if task == "choice":
        options = QUESTIONS + rng.integers(3 * QUESTIONS, size=(OPTIONS, QUESTIONS))
        columns[2] = words[options, 0].argmax(0)
        columns += list(first + options)
    return ClipData(f"clip-{row}", row, texts, np.stack(columns, 1), texts[:0])
