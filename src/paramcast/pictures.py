"""Convert decoded frames to pictures, and choose the frames of a clip.

Training and devices decode with PyAV. Both have to choose the same frames and convert them in the same way,
so both import this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import av

SHORT_SIDE = 256
"""Pixels. Frames are shrunk to this on reading: trunks take 224, and a 4K clip must fit into memory."""
INTO_FRAME = 0.001
"""Seconds added to a moment, so that a moment on the border of two frames chooses the later frame."""
_LONGEST_PAUSE_S = 10.0
"""Seconds. Where the clock of a transport or program stream leaps further ahead than this, it has been reset.

FFmpeg uses the same threshold.
"""
_SHORTEST_S, _UNSAID_S = 0.01, 0.1
"""Seconds. Players show a picture for `_UNSAID_S` where its duration is at most `_SHORTEST_S`."""


def fitted(width: int, height: int) -> tuple[int, int]:
    """Compute the width and height of a picture whose short side is shrunk to at most SHORT_SIDE pixels.

    A smaller picture is never enlarged.
    """
    scale = min(1.0, SHORT_SIDE / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def upright(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """Convert a decoded frame to a picture as players show it.

    Args:
        frame: The frame as decoded.
        size: Width and height of the upright picture; None for the frame's size, shrunk by `fitted`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    transposed, flip_x, flip_y = orientation(frame)
    turn = -1 if transposed else 1
    width, height = (size or fitted(frame.width, frame.height)[::turn])[::turn]
    # It uses the stream's color space; PyAV before 17 did not (findings/pyav_bt709_by_version.sh).
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    if transposed:
        small = small.transpose(1, 0, 2)
    return np.ascontiguousarray(small[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Read how a frame has to be turned.

    The whole display matrix counts. `frame.rotation` cannot express a mirror: it is -180 for a flip from left
    to right and 0 for a flip upside down (findings/pyav_rotation_loses_mirrors.sh). Other angles are rounded
    to the nearest multiple of 90 degrees.

    Returns:
        Whether to transpose the frame, whether to flip it left to right, and whether to flip it upside down;
        to be done in this order.
    """
    side_data: Any
    try:
        side_data = frame.side_data  # its type says that its items are strings
    except ValueError:  # the side data has a type that PyAV has no name for, such as Exif
        return {90: (True, False, True), 180: (False, True, True), 270: (True, True, False)}.get(
            frame.rotation % 360, (False, False, False)
        )
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return False, a < 0, d < 0
            return True, c < 0, b < 0
    return False, False, False


def moving_stream(container: Any) -> Any:
    """Find the video stream that players play.

    Cover pictures are left out. Still pictures are left out where there is a moving stream. Of the remaining
    streams the default stream is taken, else the first.

    Raises:
        ValueError: The file holds no video stream.
    """
    from av.stream import Disposition

    videos = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not videos:
        raise ValueError("the file holds no video stream")
    # An animated AVIF has a stream with a still picture before the moving stream.
    moving = [each for each in videos if each.frames != 1] or videos
    return next((each for each in moving if each.disposition & Disposition.default), moving[0])


def frame_rate(stream: Any) -> float:
    """Read the frames per second from the codec or the container; 25 where neither names a rate."""
    return float(stream.guessed_rate or stream.average_rate or 25)


def longest_pause(container: Any) -> float:
    """Return the longest pause in seconds; where the clock leaps further ahead, it has been reset."""
    from av.format import Flags

    return _LONGEST_PAUSE_S if container.format.flags & Flags.ts_discont.value else np.inf


def is_animation(path: Path) -> bool:
    """Check whether a file is a GIF or WebP, which Pillow decodes: FFmpeg decodes no animated WebP."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:6] in (b"GIF87a", b"GIF89a") or (head[:4], head[8:]) == (b"RIFF", b"WEBP")


def animation(path: Path) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield the pictures of a GIF or WebP, each with its duration in seconds."""
    import av
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        for picture in ImageSequence.Iterator(image):
            picture.load()
            shows_for = picture.info.get("duration", 0) / 1000
            rgba = picture.convert("RGBA")
            ground = Image.new("RGBA", rgba.size, "white")
            frame = av.VideoFrame.from_ndarray(np.asarray(Image.alpha_composite(ground, rgba).convert("RGB")))
            yield frame, shows_for if shows_for > _SHORTEST_S else _UNSAID_S


def time_indices(times: np.ndarray, count: int, end: float | None = None) -> np.ndarray:
    """Choose the frames that are shown at the centers of `count` equal spans of time.

    A frame that is shown at several centers is taken once, so fewer than `count` frames may come back.

    Args:
        times: (length,) ascending presentation times in seconds; length >= 1.
        count: Number of spans, >= 1.
        end: End of the last frame in seconds; None for a last frame as long as the median frame.

    Returns:
        (<= count,) int, indices of frames, ascending, distinct.
    """
    if end is None or end <= times[-1]:
        end = float(times[-1]) + (float(np.median(np.diff(times))) if len(times) > 1 else 1.0)
    moments = times[0] + (np.arange(count) + 0.5) / count * (end - times[0]) + INTO_FRAME
    shown: np.ndarray = np.searchsorted(times, moments, side="right") - 1
    return np.unique(np.clip(shown, 0, len(times) - 1))
