"""Cameras: shapes, severity, determinism, keys."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcast.errors import InputError
from paramcast.video.shifts.cameras import CAMERA_DIMS, CAMERA_KINDS, HELD_OUT_KINDS, TRAINING_KINDS, Camera

SEVERITIES = (0.15, 0.4, 0.7, 1.0)


def picture(height: int = 128, width: int = 128) -> np.ndarray:
    """(2, height, width, 3) uint8: soft blobs, edges and saturated colours, as in a photograph."""
    rng = np.random.default_rng(3)
    frame = rng.uniform(0, 255, (12, 12, 3)).astype(np.float32)
    frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.rectangle(frame, (width // 5, height // 4), (width // 2, height // 2), (230, 60, 40), -1)
    cv2.circle(frame, (2 * width // 3, 2 * height // 3), height // 6, (30, 90, 200), -1)
    frames = np.stack([frame, np.roll(frame, 5, axis=1)])
    return np.clip(frames, 0, 255).astype(np.uint8)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = np.mean((first.astype(float) - second.astype(float)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))


def test_kinds_are_split_into_training_and_held_out() -> None:
    assert TRAINING_KINDS + HELD_OUT_KINDS == CAMERA_KINDS
    assert not set(TRAINING_KINDS) & set(HELD_OUT_KINDS)
    assert len(HELD_OUT_KINDS) == 2


@pytest.mark.parametrize("kind", CAMERA_KINDS)
@pytest.mark.parametrize("size", [(128, 128), (61, 97)])
def test_shape_dtype_and_input_are_kept(kind: str, size: tuple[int, int]) -> None:
    frames = picture(*size)
    before = frames.copy()
    spoilt = Camera(kind, 0.8, 4).apply(frames)
    assert spoilt.shape == frames.shape
    assert spoilt.dtype == np.uint8
    assert np.array_equal(frames, before)
    assert not np.array_equal(spoilt, frames)


@pytest.mark.parametrize("kind", CAMERA_KINDS)
def test_severity_zero_leaves_the_frames_alone(kind: str) -> None:
    frames = picture()
    clean = Camera(kind, 0.0, 4).apply(frames)
    assert np.array_equal(clean, frames)
    assert clean is not frames


@pytest.mark.parametrize("kind", CAMERA_KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_severity_is_monotone_and_never_hopeless(kind: str, seed: int) -> None:
    frames = picture()
    quality = [psnr(frames, Camera(kind, severity, seed).apply(frames)) for severity in SEVERITIES]
    assert quality == sorted(quality, reverse=True)
    worst = Camera(kind, 1.0, seed).apply(frames)
    correlation = np.corrcoef(frames.mean(-1).ravel(), worst.mean(-1).ravel())[0, 1]
    assert correlation > 0.5


@pytest.mark.parametrize("kind", CAMERA_KINDS)
def test_no_frames_and_one_frame(kind: str) -> None:
    camera = Camera(kind, 0.5, 1)
    assert camera.apply(picture()[:0]).shape == (0, 128, 128, 3)
    assert camera.apply(picture()[:1]).shape == (1, 128, 128, 3)


def digests() -> list[str]:
    frames = picture()
    return [
        hashlib.sha256(Camera(kind, 0.6, 11).apply(frames).tobytes()).hexdigest() for kind in CAMERA_KINDS
    ]


def test_the_same_in_another_process() -> None:
    code = "from test_cameras import digests; print(*digests())"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=__file__.rpartition("/")[0],
    )
    assert ran.stdout.split() == digests()


@pytest.mark.parametrize("kind", ["motion_blur", "colour_cast", "dirty_lens", "haze", "low_light"])
def test_the_seed_tells_devices_apart(kind: str) -> None:
    frames = picture()
    assert not np.array_equal(Camera(kind, 0.8, 1).apply(frames), Camera(kind, 0.8, 2).apply(frames))


def test_noise_differs_from_frame_to_frame() -> None:
    frames = np.repeat(picture()[:1], 2, axis=0)
    first, second = Camera("low_light", 0.8, 1).apply(frames)
    assert not np.array_equal(first, second)


@given(
    st.sampled_from(CAMERA_KINDS),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
@settings(max_examples=200, deadline=None)
def test_keys_are_equal_exactly_for_equal_cameras(
    kind: str, severity: float, seed: int, other_severity: float, other_seed: int
) -> None:
    camera, other = Camera(kind, severity, seed), Camera(kind, other_severity, other_seed)
    assert (camera.key == other.key) == (camera == other)
    assert camera.key == Camera(kind, severity, seed).key


@pytest.mark.parametrize("kind", CAMERA_KINDS)
def test_describe_tells_kind_severity_and_cast(kind: str) -> None:
    told = Camera(kind, 0.7, 9).describe()
    assert told.shape == (CAMERA_DIMS,)
    assert told.dtype == np.float32
    severities = told[: len(CAMERA_KINDS)]
    assert severities[CAMERA_KINDS.index(kind)] == np.float32(0.7)
    assert np.count_nonzero(severities) == 1
    assert np.any(told[len(CAMERA_KINDS) :]) == (kind == "colour_cast")


def test_described_gains_are_those_of_the_picture() -> None:
    camera = Camera("colour_cast", 0.5, 3)
    grey = np.full((1, 8, 8, 3), 100, np.uint8)
    gains = np.exp(camera.describe()[-3:])
    assert np.allclose(camera.apply(grey)[0, 0, 0] / 100.0, gains, atol=0.01)


@pytest.mark.parametrize(
    ("kind", "severity"), [("fog", 0.5), ("haze", -0.1), ("haze", 1.1), ("haze", float("nan"))]
)
def test_wrong_cameras_are_refused(kind: str, severity: float) -> None:
    with pytest.raises(InputError):
        Camera(kind, severity, 0)


@pytest.mark.parametrize("frames", [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32)])
def test_wrong_frames_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        Camera("haze", 0.5, 0).apply(frames)
