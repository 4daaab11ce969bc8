"""Clips from real video: a file, a stream over RTSP on loopback, and what cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rtsp import playing

from paramcast.device import DeviceInputError, DeviceRuntime
from paramcast.device.video import _resolve, read_clips

SIZE, RATE = (320, 288), 10  # width and height; frames a second


def write(target: str, seconds: float, **options: Any) -> None:
    """H.264 whose grey level grows with the seconds: 20 a second."""
    with av.open(target, "w", **options) as container:
        coding = {"preset": "ultrafast", "bf": "0"}
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=coding)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.gop_size = RATE
        for number in range(round(seconds * RATE)):
            picture = np.full((SIZE[1], SIZE[0], 3), 20 * number / RATE, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_a_file_is_cut_into_clips(tmp_path: Path) -> None:
    write(str(tmp_path / "v.mp4"), 5)
    clips = list(read_clips(str(tmp_path / "v.mp4"), frames=4, seconds=2))
    assert [clip.shape for clip in clips] == [(4, 256, 284, 3), (4, 256, 284, 3), (2, 256, 284, 3)]
    assert all(clip.dtype == np.uint8 for clip in clips)
    levels = np.concatenate([clip.mean(axis=(1, 2, 3)) for clip in clips])
    np.testing.assert_allclose(levels, 10 * np.arange(10), atol=3)  # a frame every half second


def test_clips_can_be_observed_and_answered(bundle: Path, tmp_path: Path) -> None:
    write(str(tmp_path / "v.mkv"), 2)
    runtime = DeviceRuntime.load(bundle, "cam-1")
    for clip in read_clips(str(tmp_path / "v.mkv"), seconds=1):
        runtime.observe(clip, ["who"])
        assert runtime.answer(clip, ["who"])
    assert runtime.observed == 2


def test_a_stream_over_rtsp(tmp_path: Path) -> None:
    write(str(tmp_path / "v.h264"), 5, format="h264")
    with av.open(str(tmp_path / "v.h264")) as container:
        pictures = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert len(pictures) == 50
    with playing(pictures, RATE) as url:
        clips = list(read_clips(url, frames=4, seconds=1))
    assert [clip.shape for clip in clips[:4]] == [(4, 256, 284, 3)] * 4
    levels = np.concatenate([clip.mean(axis=(1, 2, 3)) for clip in clips])
    assert (np.diff(levels) > 2).all()  # in order, about a quarter of a second apart


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be opened: No such file"),
        (lambda path: path.write_bytes(b"no video" * 100), "cannot be read as video"),
    ],
    ids=["missing", "garbage"],
)
def test_what_cannot_be_read(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "v.mp4")
    with pytest.raises(DeviceInputError, match=message):
        next(read_clips(str(tmp_path / "v.mp4")))
    with pytest.raises(DeviceInputError, match="1 to 64 frames"):
        next(read_clips("x", frames=65))


@pytest.mark.parametrize(
    ("platform", "source", "opened"),
    [
        ("linux", "camera:1", ("/dev/video1", "v4l2")),
        ("linux", "camera", ("/dev/video0", "v4l2")),
        ("darwin", "camera:0", ("0:none", "avfoundation")),
        ("win32", "camera:HD Webcam", ("video=HD Webcam", "dshow")),
    ],
)
def test_cameras_by_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, source: str, opened: tuple[str, str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    path, options = _resolve(source)
    assert (path, options["format"]) == opened
