"""`bench anchors`: what the rules choose, and that only the anchor changes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock

from experiments.anchors import RULES, bench_anchors, chosen, with_anchors
from paramcast.bench.variants import TestDevices
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train


@pytest.fixture(scope="module")
def model(small: Collection, everyones: Path) -> TrainedModel:
    torch.set_num_threads(1)
    options = TrainingOptions("retrieval", seed=1, frames=4, devices=4, adaptor_steps=3)
    with FileLock(everyones / "anchors.lock"):  # one worker trains, the others load the model
        return train(small, everyones / "anchors", options)


@pytest.mark.parametrize(("rule", "place"), [("middle", 2), ("first", 0), ("sharpest", 3), ("medoid", 1)])
def test_rules_choose_what_they_say(model: TrainedModel, rule: str, place: int) -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    frames = np.stack([cv2.GaussianBlur(sharp, (9, 9), 3)] * 3 + [sharp])
    features = np.array([0.0, 0.3, 1.0, 0.35])[:, None] * np.ones((4, model.config.image_dim))
    assert RULES[rule](frames, features.astype(np.float32), model) == place


def test_the_surest_frame_is_that_of_the_narrowest_prediction(model: TrainedModel) -> None:
    reasoner = model.adaptor.reasoner
    assert reasoner

    def spreads(features: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            found = reasoner.predict(torch.from_numpy(model.image_uplink(features)), 4096, seed=1)
            return (found.logvar.exp().mean(0) + found.mean.var(0)).log().sum(-1)

    drawn = np.random.default_rng(0).normal(size=(32, model.config.image_dim)).astype(np.float32)
    order = spreads(drawn).argsort().numpy()
    features = drawn[order[[-1, -2, 0, -3]]]  # one that is surer than the others by more than draws differ
    spread = spreads(features)
    least = RULES["surest"](np.zeros((4, 8, 8, 3), np.uint8), features, model)
    assert spread[least] < spread.min() + 0.05 * spread.std()


def test_other_anchors_are_sent_of_support_clips_alone(model: TrainedModel, small: Collection) -> None:
    known = TestDevices.load(model, small, devices=3, seed=0)
    places, table = chosen(model, known, small), model.table(known.bank)
    same = with_anchors(table, known, places["middle"])
    np.testing.assert_allclose(same.anchors, table.anchors, atol=0.05)  # a step of int8
    other = with_anchors(table, known, places["first"])
    changed = (np.abs(other.anchors - table.anchors) > 0.05).any((1, 2))
    assert {row for row, moved in enumerate(changed) if moved} <= {
        clip.row for device in known.devices for clip in known.support(device)
    }
    assert changed.any()


def test_every_rule_has_a_gain_and_is_set_against_the_middle(model: TrainedModel, small: Collection) -> None:
    rows = {row["name"]: row for row in bench_anchors(model, small, devices=3, seed=0)}
    for name in RULES:
        assert rows[f"gain_{name}"]["low"] <= rows[f"gain_{name}"]["value"] <= rows[f"gain_{name}"]["high"]
    apart = rows["gain_medoid"]["value"] - rows["gain_middle"]["value"]
    assert rows["medoid_over_middle"]["value"] == pytest.approx(apart, abs=1e-3)
