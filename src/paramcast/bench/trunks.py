"""Loss of accuracy by an int8 image trunk: a model trained on fp32 features runs on int8 features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paramcast.bench.rows import row
from paramcast.video.data.collection import Collection
from paramcast.video.training.evaluate import draw_fleet, test_clips
from paramcast.video.training.model import TrainedModel, feature_store
from paramcast.video.training.views import Views

DEVICES = 20
"""Test devices of a model. They share its test clips, so more devices would add little information."""


def trunk_accuracy_rows(
    models: Sequence[TrainedModel], collection: Collection, seed: int
) -> list[dict[str, Any]]:
    """Measure the base model's accuracy with each trunk, as the mean over models and test devices.

    The devices have no shift.

    Args:
        models: Trained with an fp32 trunk that has an int8 version.
        collection: Has clips that the models were not trained on.
        seed: Seed of the devices.
    """
    fp32, int8 = (
        float(np.mean([_accuracy(model, collection, seed, suffix) for model in models]))
        for suffix in ("", "-int8")
    )
    return [
        row("trunk_fp32_accuracy", fp32, "%"),
        row("trunk_int8_accuracy", int8, "%", "trunk_fp32_accuracy", int8 / fp32),
    ]


def _accuracy(model: TrainedModel, collection: Collection, seed: int, suffix: str) -> float:
    config = replace(model.config, image_encoder=model.config.image_encoder + suffix)
    clips = test_clips(model, collection)
    fleet = draw_fleet(model, collection, "test", clips, "none", DEVICES, 1, seed)
    bank, gallery, data = Views(
        collection,
        clips,
        fleet.devices,
        model.task,
        model.answer_numbers,
        config.categories,
    ).load(feature_store(collection, config))
    adapted = model.adaptor.adapted
    scores = [model.task.score(adapted, None, bank, device, gallery) for device in data]
    return float(np.mean([next(iter(score.values())) for score in scores]))
