"""Simulated cameras: each degrades pictures as a real device may, always in the same way for one device.

A camera is a kind, a severity in [0, 1] and a seed. The seed fixes the properties of the device (the
direction of its shake, the color of its light, the places of the dirt on its lens). Noise that differs
between frames depends only on the seed, the frame's index and its content, so that equal frames always give
equal results.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import cv2
import numpy as np

from paramcast.errors import InputError
from paramcast.training.seeding import generator_for

TRAINING_KINDS: tuple[str, ...] = (
    "low_light",
    "defocus",
    "colour_cast",
    "low_resolution",
    "compression",
    "dirty_lens",
)
HELD_OUT_KINDS: tuple[str, ...] = ("haze", "motion_blur")
CAMERA_KINDS: tuple[str, ...] = TRAINING_KINDS + HELD_OUT_KINDS
CAMERA_DIMS = len(CAMERA_KINDS) + 3
"""Length of `Camera.describe()`: a severity for each kind, then the logarithms of a cast's RGB gains."""

_REVISION = 1  # part of every key: raise it when the pictures change, so that no old features are used


@dataclass(frozen=True)
class Camera:
    """One kind of degradation of frames.

    Attributes:
        kind: One of `CAMERA_KINDS`.
        severity: In [0, 1]; 0 leaves the frames unchanged, 1 is bad but still usable.
        seed: Fixes the properties of the device; any int.

    Raises:
        InputError: The kind is unknown, or the severity is out of range.
    """

    kind: str
    severity: float
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in CAMERA_KINDS:
            raise InputError(f"no camera kind is called {self.kind!r}; there are: {', '.join(CAMERA_KINDS)}")
        if not 0.0 <= self.severity <= 1.0:
            raise InputError(f"a camera's severity lies in [0, 1], not {self.severity}")

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """Degrade frames as if this camera had recorded them.

        Args:
            frames: (T, H, W, 3) uint8 RGB, T >= 0.

        Returns:
            New array of the same shape and dtype.

        Raises:
            InputError: `frames` has another shape or dtype.
        """
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise InputError(f"a camera takes (T, H, W, 3) uint8 frames, not {frames.shape} {frames.dtype}")
        if self.severity == 0.0 or frames.size == 0:
            return frames.copy()
        return _KINDS[self.kind](np.ascontiguousarray(frames), self.severity, self.seed)

    @property
    def key(self) -> str:
        """Key that is equal for equal cameras and differs otherwise; part of a feature's key in the cache."""
        return f"{self.kind}-{_REVISION}:{self.severity!r}:{self.seed}"

    def describe(self) -> np.ndarray:
        """Describe the camera to the oracle: (CAMERA_DIMS,) float32.

        The severity is at the index of the kind in `CAMERA_KINDS`. The last three values are the natural
        logarithms of the color cast's RGB gains (zeros for every other kind).
        """
        told = np.zeros(CAMERA_DIMS, np.float32)
        told[CAMERA_KINDS.index(self.kind)] = self.severity
        if self.kind == "colour_cast":
            told[-3:] = np.log(_cast_gains(self.severity, self.seed))
        return told


def _low_light(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    """Simulate fewer photons and a gain that restores only a part of the light but all of the noise.

    Shot noise is a Gaussian with the variance of the Poisson distribution: from ten photons on, both are
    similar, and the Gaussian is ten times faster.
    """
    light = 0.02**severity  # share of the photons that are left
    photons = 900.0 * light  # photons of a white pixel
    gain = light**-0.62
    linear = (np.arange(256, dtype=np.float32) / 255.0) ** 2.2
    deviation = np.sqrt(linear * photons + (2.0 * severity) ** 2) / photons * light * gain * severity**0.5
    mean = linear * light * gain
    noisy = np.empty(frames.shape, np.float32)
    for index, frame in enumerate(frames):
        rng = generator_for("low_light", seed, index, zlib.crc32(frame))
        noise = rng.standard_normal(frame.shape, dtype=np.float32)
        noisy[index] = noise * deviation[frame] + mean[frame]
    codes = (np.clip(noisy, 0.0, 1.0) * 4095.0).astype(np.uint16)
    gamma = ((np.arange(4096, dtype=np.float32) / 4095.0) ** (1 / 2.2) * 255.0 + 0.5).astype(np.uint8)
    spoilt: np.ndarray = np.take(gamma, codes)
    return spoilt


def _defocus(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    radius = 0.035 * severity * min(frames.shape[1:3])
    return _filtered(frames, _disc(radius))


def _motion_blur(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    angle = generator_for("motion_blur", seed).uniform(0.0, math.pi)
    return _filtered(frames, _streak(0.11 * severity * min(frames.shape[1:3]), angle))


def _colour_cast(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    levels = np.arange(256, dtype=np.float32)[:, None] * _cast_gains(severity, seed)
    table = np.clip(levels + 0.5, 0, 255).astype(np.uint8)
    return np.stack([table[frames[..., channel], channel] for channel in range(3)], axis=-1)


def _low_resolution(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    factor = 7.0**severity
    small = (max(2, round(width / factor)), max(2, round(height / factor)))
    shrunk = (cv2.resize(frame, small, interpolation=cv2.INTER_AREA) for frame in frames)
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in shrunk])


def _compression(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    """Encode and decode with H.264, at a constant rate factor from 12 (good) to 46 (blocks and smears)."""
    import av  # here, so that the other cameras work without a codec

    _, height, width, _ = frames.shape
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    tape = io.BytesIO()
    with av.open(tape, "w", format="matroska") as writer:
        options = {"crf": f"{12 + 34 * severity:.2f}", "preset": "superfast", "bf": "0"}
        stream = writer.add_stream("libx264", rate=Fraction(8), options=options)
        stream.width, stream.height, stream.pix_fmt = even.shape[2], even.shape[1], "yuv420p"
        stream.thread_count = (
            1  # more threads cut the picture into slices, so the result would depend on the machine
        )
        for frame in even:
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        writer.mux(stream.encode())
    tape.seek(0)
    with av.open(tape, "r") as reader:
        decoded = [frame.to_ndarray(format="rgb24") for frame in reader.decode(video=0)]
    return np.ascontiguousarray(np.stack(decoded)[:, :height, :width])


def _haze(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    """Add airlight that grows with depth; depth grows towards the top of the picture, with random drifts."""
    rng = generator_for("haze", seed)
    airlight = rng.uniform(190.0, 235.0) * np.array([1.0, 1.0, 1.02]) * rng.uniform(0.96, 1.04, 3)
    drift = rng.uniform(-1.0, 1.0, (4, 4)).astype(np.float32)
    height, width = frames.shape[1:3]
    depth = np.linspace(1.25, 0.65, height, dtype=np.float32)[:, None]
    depth = depth + 0.25 * cv2.resize(drift, (width, height), interpolation=cv2.INTER_CUBIC)
    through = np.exp(-1.5 * severity * depth)[..., None]
    veil = (1.0 - through) * airlight.astype(np.float32) + 0.5
    return np.asarray(np.clip(frames * through + veil, 0, 255), np.uint8)


def _dirty_lens(frames: np.ndarray, severity: float, seed: int) -> np.ndarray:
    cover, colour = _dirt(seed, *frames.shape[1:3])
    share = (severity * cover)[..., None]
    height, width = frames.shape[1:3]
    coarse = (max(1, width // 10), max(1, height // 10))
    seen = np.empty_like(frames)
    for index, frame in enumerate(frames):  # light through a smudge comes from all around it
        smeared = cv2.resize(cv2.resize(frame, coarse, interpolation=cv2.INTER_AREA), (width, height))
        seen[index] = frame * (1.0 - share) + share * (0.55 * smeared + 0.45 * colour) + 0.5
    return seen


_KINDS: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "low_light": _low_light,
    "defocus": _defocus,
    "colour_cast": _colour_cast,
    "low_resolution": _low_resolution,
    "compression": _compression,
    "dirty_lens": _dirty_lens,
    "haze": _haze,
    "motion_blur": _motion_blur,
}


def _cast_gains(severity: float, seed: int) -> np.ndarray:
    """Compute RGB gains (3,) float32 of a hue chosen by the seed; their luminance-weighted mean is 1."""
    turn = generator_for("colour_cast", seed).uniform(0.0, 2.0 * math.pi)
    hue = np.cos(turn - np.array([0.0, 2.0, 4.0]) * math.pi / 3.0)
    gains = np.exp(0.55 * severity * hue)
    return (gains / (gains @ (0.299, 0.587, 0.114))).astype(np.float32)


def _filtered(frames: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.stack([cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for frame in frames])


@lru_cache(maxsize=64)
def _disc(radius: float) -> np.ndarray:
    """Make a flat disc with a soft rim one pixel wide; it is continuous in the radius and sums to 1."""
    reach = math.ceil(radius + 0.5)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(rows, columns), 0.0, 1.0)
    return np.asarray(disc / disc.sum(), np.float32)


@lru_cache(maxsize=64)
def _streak(length: float, angle: float) -> np.ndarray:
    """Make a soft-edged line of `length` pixels through the center, at `angle` radians; it sums to 1."""
    reach = math.ceil(length / 2 + 1)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    beyond = np.maximum(np.abs(along) - length / 2, 0.0)
    line = np.clip(1.0 - np.hypot(across, beyond), 0.0, 1.0)
    return np.asarray(line / line.sum(), np.float32)


@lru_cache(maxsize=32)
def _dirt(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw smudges, dust and scratches of a lens: their cover (H, W) in [0, 0.95], and their RGB color."""
    rng = generator_for("dirty_lens", seed)
    canvas = np.zeros((256, 256), np.float32)
    for _ in range(rng.integers(5, 10)):  # smudges
        centre, size, tilt = rng.integers(0, 256, 2), rng.integers(22, 60, 2), rng.uniform(0, 180)
        _add(canvas, rng.uniform(0.7, 1.0), 9.0, cv2.ellipse, centre, size, tilt, 0, 360, 1.0, -1)
    for _ in range(rng.integers(8, 18)):  # dust
        _add(
            canvas,
            rng.uniform(0.5, 0.9),
            2.5,
            cv2.circle,
            rng.integers(0, 256, 2),
            int(rng.integers(3, 9)),
            1.0,
            -1,
        )
    for _ in range(rng.integers(2, 6)):  # scratches
        start, end = rng.integers(0, 256, (2, 2))
        _add(canvas, rng.uniform(0.4, 0.8), 0.8, cv2.line, start, end, 1.0, 2)
    cover = np.clip(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR), 0.0, 0.95)
    colour = (rng.uniform(60.0, 170.0) * np.array([1.06, 1.0, 0.9])).astype(np.float32)
    return cover, colour


def _add(
    canvas: np.ndarray, opacity: float, softness: float, draw: Callable[..., object], *shape: object
) -> None:
    """Draw one piece of dirt with a function of OpenCV, soften it and add it to `canvas` by the maximum."""
    piece = np.zeros_like(canvas)
    points = [tuple(map(int, value)) if isinstance(value, np.ndarray) else value for value in shape]
    draw(piece, *points)
    np.maximum(canvas, opacity * cv2.GaussianBlur(piece, (0, 0), softness), out=canvas)
