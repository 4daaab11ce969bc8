"""Makes pictures, videos and collections for the tests of the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from paramcast.video.data.collection import Clip


def numbered(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Make a uniform gray frame with a number (0..15) as its brightness, to identify decoded frames."""
    return np.full((height, width, 3), 16 * number + 8, np.uint8)


def number_of(frame: np.ndarray) -> int:
    return int(frame.mean()) // 16


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    gop: int = 12,
    rotation: int = 0,
) -> Path:
    """Encode frames at 10 per second, or at presentation times `pts` in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p" if codec != "mjpeg" else "yuvj420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for place, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts = pts[place] if pts else 100 * place
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def video_clip(path: Path) -> Clip:
    return Clip("clip", path.parent, 7, video=path.name)


def picture_clip(root: Path, pictures: Sequence[np.ndarray], clip_id: str = "clip") -> Clip:
    names = []
    for place, picture in enumerate(pictures):
        names.append(f"{clip_id}-{place:02}.png")
        Image.fromarray(picture).save(root / names[-1])
    return Clip(clip_id, root, 1, frames=tuple(names))


def write_clips(root: Path, *records: dict[str, Any] | str) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (root / "clips.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")
    return root


def texture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
