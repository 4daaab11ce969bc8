"""Adapt a sensor classifier of one's own: a 1-D convolutional network on a watch, which sits on either wrist.

The recordings ship with seglearn: accelerometer and gyroscope of 10 people who do 7 shoulder exercises, with
the watch on the right wrist and on the left. The base model learns the right wrist (or, if asked, both);
adaptors learn from both wrists of the same people. Scored are people of whom nothing was seen in training,
after a watch has sent a description of 8 windows (2 s each) without their labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.methods.m3bat.datasets import read_seglearn
from paramcast.bench.rows import evaluation_rows
from paramcast.bench.table import controls_table
from paramcast.training.own import OwnDevice, OwnOptions, evaluate_own, fit_supervised, pooled, train_own


class WatchModel(nn.Module):
    """Windows (N, 6, 100) -> logits (N, 7); `mount` can undo how a watch is worn."""

    def __init__(self) -> None:
        super().__init__()
        self.mount = nn.Conv1d(6, 6, 1)
        nn.init.eye_(self.mount.weight[:, :, 0])
        self.first = nn.Conv1d(6, 16, 9, stride=4, padding=4)
        self.second = nn.Conv1d(16, 32, 5, stride=2, padding=2)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 7))

    def forward(self, windows: Tensor) -> Tensor:
        """Mean and maximum over time decide."""
        h = F.relu(self.second(F.relu(self.first(self.mount(windows)))))
        logits: Tensor = self.head(torch.cat([h.mean(-1), h.amax(-1)], -1))
        return logits


def describe(windows: np.ndarray) -> np.ndarray:
    """What a watch tells of windows (N, 6, 100): means, covariances, roughness of their axes; (N, 33)."""
    centred = windows - (means := windows.mean(-1))[..., None]
    upper = np.triu_indices(6)
    covariances = (np.einsum("nct,ndt->ncd", centred, centred) / windows.shape[-1])[:, *upper]
    return np.concatenate([means, covariances, np.abs(np.diff(windows)).mean(-1)], -1)


def read_devices(seed: int) -> list[OwnDevice]:
    """A device for each person and wrist; its windows in an order that the seed draws."""
    windows, labels, people, right, _ = read_seglearn()
    windows = (windows / windows.std((0, 1))).astype(np.float32).transpose(0, 2, 1)
    rng, devices = np.random.default_rng(seed), list[OwnDevice]()
    for person in np.unique(people):
        for side in (1, 0):
            rows = rng.permutation(np.flatnonzero((people == person) & (right == side)))
            inputs, wanted = torch.from_numpy(windows[rows]), torch.from_numpy(labels[rows])
            name = f"{('left', 'right')[side]}-{person}"
            devices.append(OwnDevice(name, (inputs,), wanted, describe(windows[rows]), group=str(person)))
    return devices


def fit_base(model: nn.Module, devices: Sequence[OwnDevice], wrists: str) -> None:
    """Train in place; on right wrists alone, or on both."""
    fit_supervised(model, [d for d in devices if wrists == "both" or d.id.startswith(wrists)])


def main() -> None:
    """Every person is a test person once a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", choices=("right", "both"), default="right", help="wrists it learns from")
    parser.add_argument("--seed", type=int, default=0, help="the first one (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, help="so many, counted up (default: 1)")
    parser.add_argument("--splits", type=int, default=5, help="of the people, at most 5 (default: 5)")
    parser.add_argument("--steps", type=int, default=300, help="of each adaptor (default: 300)")
    asked, results = parser.parse_args(), []
    base, layers = partial(fit_base, wrists=asked.base), ("mount", "first", "head")
    for seed in range(asked.seed, asked.seed + asked.seeds):
        devices = read_devices(seed)
        drawn = np.random.default_rng(seed).permutation(sorted({device.group for device in devices}))
        options = OwnOptions(layers, options={"count": 32}, steps=asked.steps, rate=4e-3, folds=2, seed=seed)
        for split in range(asked.splits):
            order = np.roll(drawn, 2 * split)  # two people to test, two to validate, six to train
            parts = [[d for d in devices if d.group in some] for some in np.split(order, [2, 4])]
            torch.manual_seed(seed)
            model = train_own(WatchModel(), parts[2], parts[1], options, fit_base=base)
            results.append(evaluate_own(model, parts[0], seed=seed))
    found = pooled(results)
    for wrist in ("left", "right"):
        worn = found.among([device for device in found.devices if device.startswith(wrist)])
        rows = evaluation_rows([worn], "exercise", f"unseen people, {wrist}", None)
        print(controls_table(rows), end="\n\n")


if __name__ == "__main__":
    main()
