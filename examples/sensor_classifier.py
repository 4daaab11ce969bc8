"""Adapt a sensor classifier: a 1-D convolutional network on a watch that sits on either wrist.

The recordings ship with seglearn: accelerometer and gyroscope of 10 people who do 7 shoulder exercises, with
the watch on the right wrist and on the left. The base model is trained on the right wrist (with --base both,
on both wrists); the hypernetwork is trained on both wrists of the same people. The test people are in no
training data. A test watch sends features of 8 windows (2 s each) without labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from seglearn.datasets import load_watch
from torch import Tensor, nn
from torch.nn import functional as F

import paramcast as pc
from paramcast.training.bases import Supervised
from paramcast.training.scores import cross_entropy

WINDOW = 100  # samples: 2 s


class WatchModel(nn.Module):
    """Model that maps windows (N, 6, 100) to logits (N, 7); `mount` can compensate for the wrist."""

    def __init__(self) -> None:
        super().__init__()
        self.mount = nn.Conv1d(6, 6, 1)
        nn.init.eye_(self.mount.weight[:, :, 0])
        self.first = nn.Conv1d(6, 16, 9, stride=4, padding=4)
        self.second = nn.Conv1d(16, 32, 5, stride=2, padding=2)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 7))

    def forward(self, windows: Tensor) -> Tensor:
        """Classify by the mean and the maximum over time."""
        h = F.relu(self.second(F.relu(self.first(self.mount(windows)))))
        logits: Tensor = self.head(torch.cat([h.mean(-1), h.amax(-1)], -1))
        return logits


def read_devices(seed: int) -> list[pc.DeviceData]:
    """Make a device for each person and wrist; the seed determines the order of the windows."""
    data, rng, devices = load_watch(), np.random.default_rng(seed), list[pc.DeviceData]()
    scale = np.concatenate(data["X"]).std(0)
    found: dict[str, tuple[list[np.ndarray], list[int]]] = {}
    columns = (data[key] for key in ("X", "y", "subject", "side"))
    for signal, label, person, side in zip(*columns, strict=True):
        windows, labels = found.setdefault(f"{('left', 'right')[int(side)]}-{int(person)}", ([], []))
        for start in range(0, len(signal) - WINDOW + 1, WINDOW // 2):
            windows.append((signal[start : start + WINDOW] / scale).astype(np.float32).T)
            labels.append(int(label))
    for name, (windows, labels) in sorted(found.items()):
        order, person = rng.permutation(len(labels)), name.split("-")[1]
        devices.append(
            pc.DeviceData(name, (np.stack(windows)[order],), np.array(labels)[order], group=person)
        )
    return devices


def fit_right(net: nn.Module, devices: Sequence[pc.DeviceData]) -> None:
    """Train the base in place on right wrists only."""
    Supervised(cross_entropy)(net, [device for device in devices if device.id.startswith("right")])


def watch_model() -> pc.AdaptableModel:
    """Make a new network adaptable: its mount, its first layer and its head."""
    return pc.adaptable(WatchModel(), ["mount", "first", "head"])


def main() -> None:
    """Train and evaluate; every person is a test person once in five splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--base", choices=("right", "both"), default="right", help="wrists that it learns from"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    parser.add_argument("--splits", type=int, default=1, help="of the people, at most 5 (default: 1)")
    parser.add_argument("--steps", type=int, default=400, help="of each hypernetwork (default: 400)")
    asked = parser.parse_args()
    devices = read_devices(asked.seed)
    drawn = np.random.default_rng(asked.seed).permutation(sorted({str(device.group) for device in devices}))
    for split in range(asked.splits):
        order = np.roll(drawn, 2 * split)  # two people to test, two to validate, six to train
        test, validation, train = ([d for d in devices if d.group in p] for p in np.split(order, [2, 4]))
        torch.manual_seed(asked.seed)
        model = watch_model()
        model.fit(train, validation, asked.steps, base=asked.base == "both" or fit_right, seed=asked.seed)
        for side in ("left", "right"):
            worn = [device for device in test if device.id.startswith(side)]
            print(f"unseen people, {side} wrist\n{model.evaluate(worn).table()}\n")


if __name__ == "__main__":
    main()
