"""Adapt a camera from day to night: drift triggers a request, and an update restores the accuracy.

The model reads handwritten digits (scikit-learn's, 8 x 8) and was trained in daylight. At dusk the pictures
lose contrast and gain noise. The device detects this drift in the features that it would send, and requests
an update by itself.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import paramcast as pc
from paramcast.training.bases import Supervised
from paramcast.training.scores import cross_entropy

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, UNSEEN = IMAGES / 16, np.arange(len(IMAGES) * 4 // 5, len(IMAGES))


def seen_at(images: np.ndarray, night: float, rng: np.random.Generator) -> np.ndarray:
    """Return pictures (N, 64) in [0, 1] as a camera records them; `night` is 0 by day and 1 at night."""
    gain, lift = 1 - 0.85 * night, 0.35 * night
    return (lift + gain * images + 0.05 * night * rng.normal(size=images.shape)).astype(np.float32)


def device(name: str, rng: np.random.Generator, pool: np.ndarray, night: float) -> pc.DeviceData:
    """Make a device with forty pictures under one light."""
    rows = rng.choice(pool, 40)
    return pc.DeviceData(name, (seen_at(IMAGES[rows], night, rng),), LABELS[rows])


def trained(seed: int, steps: int) -> pc.AdaptableModel:
    """Train a base in daylight only, and a hypernetwork in every light."""
    rng = np.random.default_rng(seed)
    train, validation = np.split(rng.permutation(len(IMAGES) * 4 // 5), [len(IMAGES) * 3 // 5])
    by_day = [device(f"day-{i}", rng, train, 0.0) for i in range(40)]
    lights = [device(f"light-{i}", rng, train, rng.random()) for i in range(40)]
    held = [device(f"held-{i}", rng, validation, rng.random()) for i in range(12)]
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))
    Supervised(cross_entropy)(net, by_day)
    return pc.adaptable(net, ["0"]).fit(lights, held, steps, seed=seed)


def main() -> None:
    """Run one evening, hour by hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--steps", type=int, default=400, help="of the hypernetwork (default: 400)")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed + 1)
    with tempfile.TemporaryDirectory() as scratch:
        key = Path(scratch) / "signing.key"
        artifact = trained(asked.seed, asked.steps).export(Path(scratch) / "artifact", key=key)
        policy = pc.OnDrift(high=4.0, refresh=None)
        camera = pc.Device(artifact, id="camera", server=pc.Server(artifact, key=key), policy=policy)
        plain = pc.Device(artifact, id="plain")
        print("hour  light     base  adapted  requests")
        for hour, night in enumerate((0, 0, 0, 0.5, 0.9, 1, 1, 1), start=17):
            now = device(f"hour-{hour}", rng, UNSEEN, night)
            pictures, labels = now.inputs[0].numpy(), now.labels.numpy()
            asked_before = camera.status["cloud"]["asked"]
            for picture in pictures:
                camera.observe(picture[None])
            requests = camera.status["cloud"]["asked"] - asked_before
            base, adapted = (100 * (d.predict(pictures).argmax(-1) == labels).mean() for d in (plain, camera))
            print(f"{hour:4d}  {1 - night:5.1f}  {base:5.1f} %  {adapted:5.1f} %  {requests:8d}")


if __name__ == "__main__":
    main()
