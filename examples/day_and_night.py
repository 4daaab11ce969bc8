"""A camera that moves from day to night: its drift detector asks, a package brings the accuracy back.

The model reads handwritten digits (scikit-learn's, 8 x 8) and was trained in daylight. At dusk pictures lose
contrast and gain noise. Nobody tells the device: `OnDrift` sees it in what the device would send.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from paramcast.device import OnDrift
from paramcast.device.policy import History
from paramcast.device.support import Seen
from paramcast.protocol import make_key, open_package, public_key_hex
from paramcast.server.service import AdaptService
from paramcast.training.own import OwnDevice, OwnModel, OwnOptions, fit_supervised, train_own
from paramcast.training.own.evaluate import accuracy
from paramcast.video.training.serving import OnnxBackend

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, UNSEEN = IMAGES / 16, np.arange(len(IMAGES) * 4 // 5, len(IMAGES))
NOTHING = np.empty((0, 1), np.float32)  # no queries: pictures are all that is told


def seen_at(images: np.ndarray, night: float, rng: np.random.Generator) -> np.ndarray:
    """Pictures (N, 64) in [0, 1] as a camera shows them; `night` is 0 by day and 1 at night."""
    gain, lift = 1 - 0.85 * night, 0.35 * night
    return (lift + gain * images + 0.05 * night * rng.normal(size=images.shape)).astype(np.float32)


def device(name: str, rng: np.random.Generator, pool: np.ndarray, night: float) -> OwnDevice:
    """Forty pictures under one light; of each, the picture itself is what is told of it."""
    rows = rng.choice(pool, 40)
    pictures = seen_at(IMAGES[rows], night, rng)
    return OwnDevice(name, (torch.from_numpy(pictures),), torch.from_numpy(LABELS[rows]), pictures)


def trained(seed: int, steps: int) -> OwnModel:
    """A base that has seen daylight alone, and an adaptor that has seen every light."""
    rng = np.random.default_rng(seed)
    train, validation = np.split(rng.permutation(len(IMAGES) * 4 // 5), [len(IMAGES) * 3 // 5])
    by_day = [device(f"day-{i}", rng, train, 0.0) for i in range(40)]
    lights = [device(f"light-{i}", rng, train, rng.random()) for i in range(40)]
    held = [device(f"held-{i}", rng, validation, rng.random()) for i in range(12)]
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))
    fit_supervised(module, by_day)
    return train_own(module, lights, held, OwnOptions(("0",), form="lowrank", steps=steps, seed=seed))


class Camera:
    """A device with `model` and a cloud of its own."""

    def __init__(self, model: OwnModel) -> None:
        self.model, self.policy, key = model, OnDrift(high=4.0, refresh=None), make_key()
        self.cloud, self.trusted = AdaptService(OnnxBackend(model), key, lifetime_s=3600), public_key_hex(key)
        self.recent, self.tensors = list[Seen](), dict[str, np.ndarray]()
        self.sequence = self.observed = self.asked_at = 0

    def observe(self, picture: np.ndarray) -> bool:
        """Look at a picture, and ask the cloud if that is due."""
        anchor = self.model.uplink(picture[None])[0]
        self.recent = [*self.recent, Seen(anchor, NOTHING, picture[None], NOTHING)][-64:]
        self.observed += 1
        history = History(self.observed, self.observed - self.asked_at, self.recent, bool(self.tensors))
        if count := self.policy.wants(history):
            told = np.concatenate([clip.features for clip in self.recent[-count:]])
            package = self.cloud.adapt(self.model.request("camera", told, self.sequence).encode())
            known = {"device": "camera", "model": self.model.sha256(), "expected": self.model.shapes}
            opened = open_package(package, self.trusted, after=self.sequence, now=time.time(), **known)
            self.tensors, self.sequence, self.asked_at = opened.tensors, opened.sequence, self.observed
        return bool(count)


def main() -> None:
    """One evening, hour by hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--steps", type=int, default=600, help="of the adaptor (default: 600)")
    asked = parser.parse_args()
    camera, rng = Camera(trained(asked.seed, asked.steps)), np.random.default_rng(asked.seed + 1)
    print("hour  light     base  adapted  requests")
    for hour, night in enumerate((0, 0, 0, 0.5, 0.9, 1, 1, 1), start=17):
        now = device(f"hour-{hour}", rng, UNSEEN, night)
        requests = sum(camera.observe(picture) for picture in now.context)
        base = accuracy(camera.model.module(*now.inputs), now.labels)
        with camera.model.use(camera.tensors) as module:
            adapted = accuracy(module(*now.inputs), now.labels)
        print(f"{hour:4d}  {1 - night:5.1f}  {base:5.1f} %  {adapted:5.1f} %  {requests:8d}")


if __name__ == "__main__":
    main()
