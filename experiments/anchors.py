"""Rules that choose the anchor of a clip, compared at equal bytes, on the same devices and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from tqdm import tqdm

from experiments.options import devices_option
from paramcast.bench.rows import rows_table
from paramcast.bench.variants import METRICS, TestDevices, interval_row, one_by_one
from paramcast.cli.bench.options import data_option, model_option, models_and_collection, task_option, tell
from paramcast.cli.common import json_option, seed_option
from paramcast.training.uplink import as_received
from paramcast.video.data.collection import Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.training.bank import ClipKey
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.views import UplinkTable

DRAWS = 64
"""Number of draws of z for the ADR's prediction."""


def middle(frames: np.ndarray, features: np.ndarray, model: TrainedModel) -> int:
    """Choose the middle frame, as devices do."""
    return len(frames) // 2


def first(frames: np.ndarray, features: np.ndarray, model: TrainedModel) -> int:
    """Choose the first frame, which a device has at once."""
    return 0


def sharpest(frames: np.ndarray, features: np.ndarray, model: TrainedModel) -> int:
    """Choose the frame whose Laplacian varies most."""
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    return int(np.argmax([cv2.Laplacian(picture, cv2.CV_64F).var() for picture in grey]))


def medoid(frames: np.ndarray, features: np.ndarray, model: TrainedModel) -> int:
    """Choose the frame whose feature is nearest to the features of all other frames."""
    apart = np.linalg.norm(features[:, None] - features[None], axis=-1)
    return int(apart.sum(1).argmin())


def surest(frames: np.ndarray, features: np.ndarray, model: TrainedModel) -> int:
    """Choose the frame from which the ADR predicts the clip with the least variance."""
    assert model.adaptor.reasoner
    with torch.no_grad():
        found = model.adaptor.reasoner.predict(torch.from_numpy(model.image_uplink(features)), DRAWS)
        variance = found.logvar.exp().mean(0) + found.mean.var(0)
    return int(variance.log().sum(-1).argmin())


Rule = Callable[[np.ndarray, np.ndarray, TrainedModel], int]
"""Frames (T, H, W, 3) uint8 as the device sees them, their features (T, Di), a model -> the anchor."""

RULES: Mapping[str, Rule] = {rule.__name__: rule for rule in (middle, first, sharpest, medoid, surest)}


def bench_anchors(
    model: TrainedModel, collection: Collection, *, devices: int, seed: int
) -> list[dict[str, Any]]:
    """Measure the gain of updates by each rule, and its difference to the gain by the middle frame.

    Args:
        model: Trained with one anchor a clip and an ADR.
        collection: Collection of the test devices.
        devices: Number of devices.
        seed: Seed of the devices.

    Raises:
        InputError: The collection has too few clips.
    """
    known = TestDevices.load(model, collection, devices, seed)
    reference, scores = known.reference("all", model), {}
    rows = [interval_row(f"reference_{METRICS[model.config.task].name}", reference, "%")]
    places = chosen(model, known, collection)
    for name in RULES:
        table = with_anchors(model.table(known.bank), known, places[name])
        scores[name] = known.scores(name, model, one_by_one(known.packages(model, table=table)))
        rows.append(interval_row(f"gain_{name}", scores[name] - reference, "points"))
    for name in list(RULES)[1:]:
        rows.append(interval_row(f"{name}_over_middle", scores[name] - scores["middle"], "points"))
    return rows


def chosen(model: TrainedModel, known: TestDevices, collection: Collection) -> dict[str, dict[ClipKey, int]]:
    """Return rule -> the anchor's place in every support clip of the devices, as they see it."""
    places: dict[str, dict[ClipKey, int]] = {name: {} for name in RULES}
    for device in tqdm(known.devices, desc="anchors", unit="device", disable=None):
        for clip in known.support(device):
            key: ClipKey = (clip.clip_id, device.device.cameras, None)
            frames = read_frames(collection.by_id[clip.clip_id], model.config.frames, model.config.sampling)
            for camera in device.device.cameras:
                frames = camera.apply(frames)
            features = known.bank.frames[clip.row][known.bank.mask[clip.row]].numpy()
            for name, rule in RULES.items():
                places[name][key] = rule(frames, features, model)
    return places


def with_anchors(table: UplinkTable, known: TestDevices, places: Mapping[ClipKey, int]) -> UplinkTable:
    """Copy the table with other anchors for these clips."""
    anchors = table.anchors.copy()
    rows = [known.bank.clip_rows[key] for key in places]
    features = known.bank.frames[rows, list(places.values())].numpy()
    anchors[rows, 0] = as_received(table.image(features))
    return replace(table, anchors=anchors)


@click.command(name="anchors", context_settings={"show_default": True})
@model_option
@data_option
@task_option
@devices_option
@seed_option
@json_option
def command(
    model_dir: Path | None, data: Path | None, task: str, devices: int, seed: int, json_file: Path | None
) -> None:
    """Compare anchors: the middle frame of a clip, the first, the sharpest, the medoid, the ADR's surest."""
    (model,), collection = models_and_collection([model_dir] if model_dir else [], data, [seed], task)
    rows = bench_anchors(model, collection, devices=devices, seed=seed)
    tell(rows_table(rows), rows, seed, json_file)
