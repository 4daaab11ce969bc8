"""The page takes the frames of a video that training would have taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pages import frames_of
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


def test_what_is_no_video_is_said_to_be_none(bare_page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(Error, match=r"notes\.mp4 cannot be played"):
        frames_of(bare_page, tmp_path / "notes.mp4", 4)
