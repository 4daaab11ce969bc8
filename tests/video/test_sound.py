"""Sound of clips: real files, written by PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcast.video.data.collection import Clip, CollectionError
from paramcast.video.data.sound import read_sound, sound_windows


def clip(root: Path, video: str | None) -> Clip:
    return Clip("a", root, 7, () if video else ("a.png",), video, (), (), (), None, None, {})


def write_tone(path: Path, codec: str, rate: int, layout: str) -> None:
    """One second of 500 Hz; the second channel, if there is one, is silent."""
    tone = (0.5 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate)).astype(np.float32)
    channels = np.stack([tone, 0 * tone][: len(av.AudioLayout(layout).channels)])
    with av.open(path, "w") as writer:
        stream = writer.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(channels, "fltp", layout)
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            writer.mux(packet)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [("a.mp4", "aac", 44_100, "stereo"), ("a.mkv", "aac", 16_000, "mono"), ("a.mov", "aac", 48_000, "mono")],
)
def test_any_file_is_heard_at_one_rate_and_in_one_channel(
    tmp_path: Path, name: str, codec: str, rate: int, layout: str
) -> None:
    write_tone(tmp_path / name, codec, rate, layout)
    sound = read_sound(clip(tmp_path, name))
    assert sound.dtype == np.float32
    assert abs(len(sound) - 16_000) < 2_500  # the encoder's frames before and behind
    inner = sound[4_000:12_000]
    assert np.abs(np.fft.rfft(inner)).argmax() == 250  # 500 Hz in half a second
    amplitude = np.sqrt(2 * (inner**2).mean())
    assert amplitude == pytest.approx(0.25 if layout == "stereo" else 0.5, rel=0.05)


def test_what_has_no_sound_is_named(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"clips.jsonl:7.*pictures have no sound"):
        read_sound(clip(tmp_path, None))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(CollectionError, match="cannot decode the sound"):
        read_sound(clip(tmp_path, "broken.mp4"))
    with av.open(tmp_path / "mute.mp4", "w") as writer:
        stream = writer.add_stream("libx264", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        for packet in (*stream.encode(frame), *stream.encode(None)):
            writer.mux(packet)
    with pytest.raises(CollectionError, match="no audio stream"):
        read_sound(clip(tmp_path, "mute.mp4"))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 500), st.integers(1, 90), st.integers(1, 90))
def test_windows_cover_every_sample_in_order(samples: int, window: int, hop: int) -> None:
    sound = np.arange(1, samples + 1, dtype=np.float32)
    windows = sound_windows(sound, window, hop)
    assert windows.shape[1] == window
    starts = np.arange(len(windows)) * hop
    for start, found in zip(starts, windows, strict=True):
        heard = sound[start : start + window]
        np.testing.assert_array_equal(found[: len(heard)], heard)
        assert not found[len(heard) :].any()
    assert starts[-1] + window >= samples
    assert len(windows) == 1 or starts[-2] + window < samples
