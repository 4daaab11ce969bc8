"""The page takes the frames of a video that training would have taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pages import frames_of
from people_media import cut_by_copy, encode, numbers, with_matrix
from playwright.sync_api import Error, Page

from paramcast.video.data.collection import Clip
from paramcast.video.data.frames import read_frames


@pytest.mark.parametrize("sampling", ["uniform", "time", "scene"])
def test_it_takes_the_frames_that_python_takes(
    bare_page: Page, videos: tuple[Clip, ...], sampling: str
) -> None:
    for clip in videos:
        every = read_frames(clip, 10_000).astype(float)
        ours, theirs = read_frames(clip, 6, sampling), frames_of(bare_page, clip.paths[0], 6, sampling)
        assert theirs.shape == ours.shape
        # Decoders differ a little in colour; which frame of the video it is stands out all the same.
        places = [
            [np.abs(every - frame).mean(axis=(1, 2, 3)).argmin() for frame in some] for some in (ours, theirs)
        ]
        assert np.abs(np.subtract(*places)).max() <= 1
        assert np.abs(theirs.astype(float) - ours).mean() < 6
        np.testing.assert_array_equal(theirs, frames_of(bare_page, clip.paths[0], 6, sampling))


KINDS: dict[str, Callable[[Path], Path]] = {
    "variable rate": lambda f: encode(
        f / "a.mp4", range(40), times=[97 * n + 9 * (n % 3) ** 2 for n in range(40)]
    ),
    "phone": lambda f: encode(
        f / "a.mp4",
        range(50),
        times=[33 * n for n in range(20)]
        + [660 + 250 * n for n in range(10)]
        + [3200 + 33 * n for n in range(20)],
    ),
    "screen that stands still": lambda f: encode(
        f / "a.webm",
        range(34),
        codec="libvpx",
        times=[33 * n for n in range(30)] + [1000 + 3000 * n for n in range(4)],
    ),
    "edit list": lambda f: cut_by_copy(encode(f / "w.mp4", range(120), rate=15), f / "a.mp4", 4, 3),
    "B-frames": lambda f: encode(f / "a.mp4", range(40), gop=20, bframes=3),
    "mirrored": lambda f: with_matrix(encode(f / "w.mp4", range(40)), f / "a.mp4", -1, 0, 0, 1),
    "WebM": lambda f: encode(f / "a.webm", range(40), codec="libvpx", gop=12),
}


@pytest.mark.parametrize("kind", KINDS)
def test_videos_of_people(bare_page: Page, tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path)
    clip = Clip("a", tmp_path, 1, video=path.name)
    ours, theirs = read_frames(clip, 8, "time"), frames_of(bare_page, path, 8, "time")
    upright = [frame[:, ::-1] if kind == "mirrored" else frame for frame in theirs]
    wanted = [frame[:, ::-1] if kind == "mirrored" else frame for frame in ours]
    assert len(upright) == len(wanted)  # a frame that shows for long is taken once
    # WebM does not say for how long its last frame shows: moments may lie a little apart.
    off = 2 if kind == "screen that stands still" else 0
    assert np.abs(np.subtract(numbers(upright), numbers(wanted))).max() <= off


def test_what_is_no_video_is_said_to_be_none(bare_page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(Error, match=r"notes\.mp4 cannot be played"):
        frames_of(bare_page, tmp_path / "notes.mp4", 4)
