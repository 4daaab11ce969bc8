"""Information in an uplink feature on its frame, and the effect and cost of noise on the feature.

The attacker is strong: he has the uplink's projection, thousands of frames of the same world with their
features, and knows the scale of the noise. He trains a decoder from features to pictures (Dosovitskiy, Brox,
"Inverting Visual Representations with Convolutional Networks", 2016) and probes for their content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from paramcast.bench.rows import rows_table
from paramcast.bench.variants import TestDevices, interval_row, one_by_one, share
from paramcast.cli.bench.options import data_option, models_and_collection, models_option, seeds_option, tell
from paramcast.cli.common import json_option, seed_option
from paramcast.device.noise import UplinkNoise
from paramcast.training.uplink import Uplink, as_received
from paramcast.video.data.collection import Clip, Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.training.model import TrainedModel

SCALES = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Standard deviations of the noise; uplink features have a standard deviation of 1."""

SIDE = 32
"""Side of a reconstructed frame in pixels."""

SHIFT = "vocabulary"
"""The shift under which adaptation gains most in the demo world."""

_COMPONENTS, _WIDTH = 256, 512
_STEPS, _BATCH, _RATE, _LOOK = 1000, 128, 1e-3, 50
_LEAST_CLIPS = 10
"""An answer is probed if at least this number of test clips have it, and at least this number lack it."""


Pictures = dict[str, np.ndarray]
"""Clip id -> its frames (T, 3, SIDE, SIDE) float32 in 0..1."""


@dataclass(frozen=True)
class Shown:
    """Frames and their features.

    Attributes:
        pictures: (N, 3, SIDE, SIDE) float32 in 0..1.
        uplinks: (N, U) float32, before they are sent.
        clips: (N,) the clip of each frame.
    """

    pictures: np.ndarray
    uplinks: np.ndarray
    clips: Sequence[Clip]

    def sent(self, scale: float, seed: int) -> np.ndarray:
        """Compute the features (N, U) float32 as the cloud receives them, with noise of this scale."""
        return as_received(UplinkNoise(scale, seed)(self.uplinks))


def bench_inversion(
    models: Sequence[TrainedModel], collection: Collection, *, devices: int, seed: int
) -> list[dict[str, Any]]:
    """Attack the features that devices send, and score devices that send them with noise.

    Args:
        models: Of the demo world's size; each model has its own attack and devices.
        collection: Collection of their training.
        devices: Test devices of each model.
        seed: Seed of attacks and devices.

    Returns:
        For each scale: PSNR and SSIM of reconstructed test frames, accuracy of the category and area under
        the curve of answers read off the feature, each against a guess without the feature; and the gain of
        adaptation. All have intervals over the frames, clips, answers or devices of all models.

    Raises:
        InputError: The collection has too few clips.
    """
    found: dict[str, list[np.ndarray]] = {}

    def keep(name: str, values: np.ndarray) -> None:
        found.setdefault(name, []).append(values)

    read: Pictures = {}
    for place, model in enumerate(models):
        known, hidden = (_shown(model, collection, split, read) for split in ("train", "test"))
        for name, values in _guesses(known, hidden).items():
            keep(name, values)
        for scale in tqdm(SCALES, desc=f"model {place}: attacks", disable=None):
            for name, values in _attacks(known, hidden, scale, seed).items():
                keep(f"{name} {scale:g}", values)
        for name, values in _gains(model, collection, devices, seed).items():
            keep(name, values)
    return _rows({name: np.concatenate(parts) for name, parts in found.items()})


def _rows(found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for scale in SCALES:
        for name, unit in (("psnr", "dB"), ("ssim", "of 1"), ("category", "% right"), ("answers", "AUC, %")):
            guess = float(found[f"{name} guess"].mean())
            values = found[f"{name} {scale:g}"]
            against = f"without the feature: {guess:.3g}"
            title = f"inversion_{name}_{scale:g}"
            rows.append(interval_row(title, values, unit, against, float(values.mean()) / guess))
        plain, values = found["gain 0"].mean(), found[f"gain {scale:g}"]
        against = f"without noise: {plain:.1f}"
        kept = share(float(values.mean()), float(plain))
        rows.append(interval_row(f"gain_{scale:g}", values, "points", against, kept))
    nearest = [("nearest_psnr", "dB", "psnr 0"), ("nearest_ssim", "of 1", "ssim 0")]
    for name, unit, decoded in nearest:
        best = float(found[decoded].mean())
        values = found[name]
        against = f"the decoder, without noise: {best:.3g}"
        rows.append(interval_row(name, values, unit, against, float(values.mean()) / best))
    return rows


def _shown(model: TrainedModel, collection: Collection, split: str, read: Pictures) -> Shown:
    """Read frames of a split's clips: all frames in training, since an attacker uses all; else the anchors.

    Frames that have been read are kept in `read`, since models differ only in how they split the same clips.
    """
    clips = [collection.by_id[name] for name in model.config.clips[split]]
    features = model.store(collection).clips([(clip.id, ()) for clip in clips])
    pictures, rows, whose = [], [], []
    for clip, feature in zip(tqdm(clips, desc=f"{split} frames", disable=None), features, strict=True):
        if clip.id not in read:
            read[clip.id] = _small(read_frames(clip, model.config.frames, model.config.sampling))
        seen = read[clip.id]
        places = range(len(seen)) if split == "train" else [len(seen) // 2]
        for place in places:
            pictures.append(seen[place])
            rows.append(feature[place])
            whose.append(clip)
    return Shown(np.stack(pictures), model.image_uplink(np.stack(rows)), whose)


def _small(frames: np.ndarray) -> np.ndarray:
    """Shrink (T, H, W, 3) uint8 -> (T, 3, SIDE, SIDE) float32 in 0..1."""
    shrunk = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(shrunk).transpose(0, 3, 1, 2).astype(np.float32) / 255


def _guesses(known: Shown, hidden: Shown) -> dict[str, np.ndarray]:
    """Guess without the feature: the mean picture, the most frequent category, no information on answers.

    And guess without a decoder: the known picture with the nearest feature.
    """
    mean = np.broadcast_to(known.pictures.mean(0), hidden.pictures.shape)
    wanted, given = hidden.sent(0, 0), known.sent(0, 0)
    distances = (wanted**2).sum(1)[:, None] - 2 * wanted @ given.T + (given**2).sum(1)
    nearest = known.pictures[distances.argmin(1)]
    categories = np.array([clip.category or "" for clip in known.clips])
    names, counts = np.unique(categories, return_counts=True)
    common = names[counts.argmax()]
    return {
        "psnr guess": psnr(mean, hidden.pictures),
        "ssim guess": ssim(mean, hidden.pictures),
        "nearest_psnr": psnr(nearest, hidden.pictures),
        "nearest_ssim": ssim(nearest, hidden.pictures),
        "category guess": np.array([100.0 * (clip.category == common) for clip in hidden.clips]),
        "answers guess": np.array([50.0]),
    }


def _attacks(known: Shown, hidden: Shown, scale: float, seed: int) -> dict[str, np.ndarray]:
    """Run the attacks on features with noise of this scale."""
    sent = hidden.sent(scale, seed)
    decoder = _decoder(known, scale, seed)
    with torch.no_grad():
        made = decoder(torch.from_numpy(sent)).numpy()
    given = known.sent(scale, seed + 1)
    probe = LogisticRegression(C=0.1, max_iter=1000)
    probe.fit(given, [clip.category or "" for clip in known.clips])
    right = probe.predict(sent) == np.array([clip.category or "" for clip in hidden.clips])
    return {
        "psnr": psnr(made, hidden.pictures),
        "ssim": ssim(made, hidden.pictures),
        "category": 100.0 * right,
        "answers": _answers(known, hidden, given, sent),
    }


def _answers(known: Shown, hidden: Shown, given: np.ndarray, sent: np.ndarray) -> np.ndarray:
    """Compute the area under the curve in percent, of each frequent answer, predicted from the feature."""
    said = _said(hidden)
    often = [
        answer
        for answer in sorted(set().union(*said))
        if _LEAST_CLIPS <= sum(answer in one for one in said) <= len(said) - _LEAST_CLIPS
    ]
    labels = np.array([[answer in one for answer in often] for one in _said(known)])
    told = Ridge(alpha=0.1 * len(given)).fit(given, labels.astype(np.float64)).predict(sent)
    truth = [[answer in one for answer in often] for one in said]
    areas: np.ndarray = 100 * roc_auc_score(truth, told, average=None)
    return areas


def _said(shown: Shown) -> list[set[str]]:
    """Return the answers about the clip of each frame."""
    return [{pair.answer for pair in clip.qa} for clip in shown.clips]


class Decoder(nn.Module):
    """Network from uplink features to pictures, by way of the principal components of the known pictures."""

    def __init__(self, known: Shown) -> None:
        """Find the components of the known pictures."""
        super().__init__()
        flat = torch.from_numpy(known.pictures).flatten(1)
        self.mean = flat.mean(0)
        self.basis = torch.pca_lowrank(flat, min(_COMPONENTS, *flat.shape))[2]
        self.net = nn.Sequential(
            nn.Linear(known.uplinks.shape[1], _WIDTH),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(_WIDTH, self.basis.shape[1]),
        )

    def coefficients(self, pictures: np.ndarray) -> Tensor:
        """Compute the coefficients (N, C) of the components for pictures (N, 3, SIDE, SIDE)."""
        found: Tensor = (torch.from_numpy(pictures).flatten(1) - self.mean) @ self.basis
        return found

    def forward(self, uplinks: Tensor) -> Tensor:
        """Decode (N, U) -> (N, 3, SIDE, SIDE) in 0..1."""
        flat: Tensor = self.mean + self.net(uplinks) @ self.basis.T
        return flat.reshape(-1, 3, SIDE, SIDE).clamp(0, 1)


def _decoder(known: Shown, scale: float, seed: int) -> Decoder:
    """Train a decoder on features with new noise at each step; keep the best on a tenth of the clips."""
    torch.manual_seed(seed)
    decoder = Decoder(known)
    wanted = decoder.coefficients(known.pictures)
    held_from = len(known.clips) - len(known.clips) // 10
    while known.clips[held_from - 1] is known.clips[held_from]:
        held_from += 1  # frames of one clip stay together
    held = torch.from_numpy(known.sent(scale, seed + 3)[held_from:])
    optimizer = torch.optim.AdamW(decoder.parameters(), _RATE, weight_decay=0.01)
    noise, rng = UplinkNoise(scale, seed + 2), np.random.default_rng(seed)
    least, best = float("inf"), decoder.state_dict()
    for step in range(_STEPS):
        drawn = rng.integers(held_from, size=_BATCH)
        received = torch.from_numpy(as_received(noise(known.uplinks[drawn])))
        loss = F.mse_loss(decoder.net(received), wanted[torch.from_numpy(drawn)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % _LOOK == _LOOK - 1:
            decoder.eval()
            with torch.no_grad():
                error = F.mse_loss(decoder.net(held), wanted[held_from:]).item()
            decoder.train()
            if error < least:
                least, best = error, {name: value.clone() for name, value in decoder.state_dict().items()}
    decoder.load_state_dict(best)
    return decoder.eval()


def psnr(made: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the peak signal-to-noise ratio (N,) in dB of pictures (N, 3, H, W) in 0..1."""
    errors = ((made - true) ** 2).mean((1, 2, 3))
    ratio: np.ndarray = -10 * np.log10(np.maximum(errors, 1e-10))
    return ratio


def ssim(made: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the structural similarity (N,) of the channels' mean (Wang et al. 2004).

    The window has a standard deviation of 1.5 pixels.
    """
    x, y = made.mean(1, dtype=np.float64), true.mean(1, dtype=np.float64)

    def local(values: np.ndarray) -> np.ndarray:
        smooth: np.ndarray = gaussian_filter(values, (0, 1.5, 1.5), truncate=3.5)
        return smooth

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    both = local(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    whole: np.ndarray = (alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean((1, 2))
    return whole


@dataclass(frozen=True)
class NoisyUplink(Uplink):
    """An uplink that adds noise to its output."""

    noise: UplinkNoise

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Project (N, D) -> (N, U) float32."""
        return self.noise(super().__call__(features))


def _gains(model: TrainedModel, collection: Collection, devices: int, seed: int) -> dict[str, np.ndarray]:
    """Measure the gains (N,) of devices over the better of base and constant, in points, for each scale."""
    known = TestDevices.load(model, collection, devices, seed, SHIFT)
    reference, gains = known.reference("reference", model), {}
    for scale in SCALES:
        noise = UplinkNoise(scale, seed)
        image, text = (
            NoisyUplink(uplink.mean, uplink.matrix, noise)
            for uplink in (model.image_uplink, model.text_uplink)
        )
        table = replace(model.table(known.bank), text=text)
        sent = image(known.bank.anchors(model.config.anchors).reshape(-1, len(image.mean)))
        table = replace(table, anchors=as_received(sent).reshape(table.anchors.shape))
        packages = one_by_one(known.packages(model, table=table))
        gains[f"gain {scale:g}"] = known.scores(f"noise {scale:g}", model, packages) - reference
    return gains


@click.command(name="inversion", context_settings={"show_default": True})
@models_option
@data_option
@seeds_option
@click.option("--devices", default=60, type=click.IntRange(2), help="Test devices of each model.")
@seed_option
@json_option
def command(
    model_dirs: tuple[Path, ...],
    data: Path | None,
    seeds: int,
    devices: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Reconstruct frames from what devices send, with and without noise, and score the devices."""
    models, collection = models_and_collection(model_dirs, data, range(seed, seed + seeds))
    rows = bench_inversion(models, collection, devices=devices, seed=seed)
    tell(rows_table(rows), rows, seed, json_file)
