"""Simulated users: domain randomization for each kind of signal. All examples of a device change alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paramcast.training.devices import DeviceData

TILT = {
    "phone_watch": 20.0,
    "hapt": 15.0,
    "wisdm_watch": 30.0,
    "sisfall": 15.0,
    "utd_mhad": 15.0,
    "metabolics": 4.0,
}
"""Standard deviation in degrees of the random rotation of a three-axis sensor."""


class Randomized:
    """Draws a variant of a device, for `fit(augment=...)`.

    Args:
        name: Name of the set.
        strength: Size of the differences between users; 1 gives a good base.
    """

    def __init__(self, name: str, strength: float = 1.0) -> None:
        self.name, self.strength = name, strength

    def __call__(self, device: DeviceData, rng: np.random.Generator) -> DeviceData:
        """Return the device with another sensor, another hand or another voice; labels stay."""
        x, *rest = device.inputs
        if x.dim() == 4:
            x = (
                _spoken(x, rng, self.strength)
                if self.name == "dsp_speech"
                else _photographed(x, rng, self.strength)
            )
        elif self.name == "myo_emg":
            x = _muscles(x, rng, self.strength)
        else:
            x = _moved(x, TILT.get(self.name, 15.0) * self.strength, rng, timed=self.name != "metabolics")
        return replace(device, inputs=(x, *rest))


def _moved(x: Tensor, tilt: float, rng: np.random.Generator, *, timed: bool) -> Tensor:
    """Turn and scale three-axis sensors (N, 3 k, L), both kinds together, and stretch time."""
    groups = x.shape[1] // 3
    turned = []
    rotation = np.eye(3)
    for group in range(groups):
        if group % 2 == 0:
            rotation = _rotation(np.radians(tilt) * rng.standard_normal(3))
        gain = np.exp(0.07 * rng.standard_normal())
        matrix = torch.tensor(gain * rotation, dtype=x.dtype)
        turned.append(torch.einsum("ij,njl->nil", matrix, x[:, 3 * group : 3 * group + 3]))
    out = torch.cat([*turned, x[:, 3 * groups :]], 1)
    scale = out.std((0, 2), keepdim=True)
    out = out + 0.05 * scale * torch.tensor(rng.standard_normal((1, out.shape[1], 1)), dtype=x.dtype)
    return _stretched(out, float(np.exp(0.1 * rng.standard_normal()))) if timed else out


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Compute the rotation (3, 3) about a vector by its length."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: np.ndarray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned


def _stretched(x: Tensor, pace: float) -> Tensor:
    """Play signals (N, C, L) faster or slower; values beyond the end are mirrored."""
    length = x.shape[-1]
    at = (np.arange(length) - (length - 1) / 2) * pace + (length - 1) / 2
    at = np.abs(at)
    at = np.where(at > length - 1, 2 * (length - 1) - at, at).clip(0, length - 1)
    low = torch.from_numpy(np.floor(at).astype(np.int64))
    part = torch.tensor(at - np.floor(at), dtype=x.dtype)
    return x[..., low] * (1 - part) + x[..., (low + 1).clamp(max=length - 1)] * part


def _muscles(x: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Shift a band of 8 electrodes (N, 16, L) around the arm, and scale it and each electrode."""
    shift = float(np.clip(rng.normal(0, 0.6 * strength), -2, 2))
    whole, part = int(np.floor(shift)), shift - float(np.floor(shift))
    gains = torch.tensor(
        np.exp(strength * (0.2 * rng.standard_normal(8) + 0.25 * rng.standard_normal())), dtype=x.dtype
    )
    out = []
    for half in (x[:, :8], x[:, 8:]):
        moved = (1 - part) * half.roll(whole, 1) + part * half.roll(whole + 1, 1)
        out.append(moved * gains[:, None])
    return torch.cat(out, 1)


def _spoken(x: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Change voice and microphone of log-mel energies (N, 1, frames, bands) in dB."""
    bands = x.shape[-1]
    warp = float(np.exp(0.06 * strength * rng.standard_normal()))
    at = torch.tensor((np.arange(bands) * warp).clip(0, bands - 1), dtype=x.dtype)
    low = at.floor().long()
    part = at - low
    x = x[..., low] * (1 - part) + x[..., (low + 1).clamp(max=bands - 1)] * part
    ramp = np.linspace(-1, 1, bands)
    tone = (
        4 * rng.standard_normal()
        + 4 * rng.standard_normal() * ramp
        + 3 * rng.standard_normal() * np.cos(np.pi * ramp)
    )
    x = x + torch.tensor(strength * tone, dtype=x.dtype)
    floor = float(x.amin() + rng.uniform(0, 25))
    x = torch.logaddexp(x / 4, torch.tensor(floor / 4)) * 4
    return _stretched(x[:, 0].transpose(1, 2), float(np.exp(0.1 * rng.standard_normal()))).transpose(1, 2)[
        :, None
    ]


def _photographed(x: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Change light, distance and place of photos (N, 1, H, W)."""
    zoom, turn = float(np.exp(0.1 * strength * rng.standard_normal())), 0.1 * strength * rng.standard_normal()
    theta = torch.tensor(
        [
            [zoom * np.cos(turn), -zoom * np.sin(turn), 0.1 * rng.standard_normal()],
            [zoom * np.sin(turn), zoom * np.cos(turn), 0.1 * rng.standard_normal()],
        ],
        dtype=x.dtype,
    )
    grid = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    middle = x.mean()
    return (
        (x - middle) * float(np.exp(0.25 * strength * rng.standard_normal()))
        + middle
        + 0.1 * strength * float(rng.standard_normal())
    )
