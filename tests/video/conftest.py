"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from clip_makers import picture_clip, texture, write_clips, write_video
from people_media import encode


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache folder in place of the user's cache."""
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def collection_root(tmp_path: Path) -> Path:
    """Make a collection of three clips: two clips of pictures of different sizes, and a video."""
    root = tmp_path / "made"
    root.mkdir()
    first = picture_clip(root, [texture(0), texture(1)], "a")
    second = picture_clip(root, [texture(place, 50, 90) for place in range(2, 5)], "b")
    write_video(root / "c.mp4", [texture(place, 64, 96) for place in range(5)])
    return write_clips(
        root,
        {"id": "a", "frames": first.frames, "category": 3, "captions": ["one"], "mood": "calm"},
        {"id": "b", "frames": second.frames, "frame_captions": ["x", "y", "z"], "domain": "kitchen"},
        {"id": "c", "video": "c.mp4", "qa": [{"question": "what?", "answer": "noise"}], "device": "cam-1"},
    )


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Twelve seconds, a frame a second."""
    return encode(tmp_path_factory.mktemp("v") / "v.mp4", range(12), rate=1, gop=4).read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"
