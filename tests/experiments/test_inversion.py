"""`bench inversion`: measures that are known beforehand, and a whole small run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import inversion
from experiments.inversion import bench_inversion, psnr, ssim
from paramcast.bench.untrained import untrained_model
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.world import make_world


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).random((5, 3, 32, 32)).astype(np.float32)


def test_a_perfect_copy(pictures: np.ndarray) -> None:
    np.testing.assert_allclose(psnr(pictures, pictures), 100, rtol=1e-5)
    np.testing.assert_allclose(ssim(pictures, pictures), 1)


def test_errors_of_a_known_size(pictures: np.ndarray) -> None:
    np.testing.assert_allclose(psnr(pictures + np.float32(0.1), pictures), 20, atol=1e-3)
    # Flat pictures: only the term of the means is left, (2 a b + c1) / (a^2 + b^2 + c1).
    dark, light = np.full((1, 3, 32, 32), 0.2), np.full((1, 3, 32, 32), 0.4)
    assert ssim(dark, light)[0] == pytest.approx((0.16 + 1e-4) / (0.2 + 1e-4))
    noise = np.random.default_rng(1).random(pictures.shape)
    assert abs(ssim(noise, pictures)).max() < 0.2


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    collection = make_world(tmp_path / "world", clips=90)
    monkeypatch.setattr(inversion, "_STEPS", 100)
    monkeypatch.setattr(inversion, "_LEAST_CLIPS", 3)
    monkeypatch.setattr(inversion, "SCALES", (0.0, 50.0))
    rows = bench_inversion([untrained(collection)], collection, devices=3, seed=0)
    found = {row["name"]: row for row in rows}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    # Where hardly anything but noise is sent, nothing is told by it.
    assert found["inversion_answers_0"]["value"] > found["inversion_answers_50"]["value"]
    assert abs(found["inversion_answers_50"]["value"] - 50) < 12
    assert found["inversion_psnr_0"]["value"] > 5
    assert {"gain_0", "gain_50", "nearest_psnr"} <= found.keys()


def untrained(collection: Collection) -> TrainedModel:
    """A model of random parameters over real trunks, for a collection's questions; 60 clips to train."""
    model = untrained_model("codes")
    ids = [clip.id for clip in collection.clips]
    answers = sorted({pair.answer for clip in collection.clips for pair in clip.qa})
    config = replace(
        model.config,
        frames=2,
        answers=tuple(answers),
        clips={"train": ids[:60], "validation": [], "test": ids[60:]},
        collection=collection.name,
    )
    return TrainedModel(config, model.image_uplink, model.text_uplink)
