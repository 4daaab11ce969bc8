"""Pictures out of decoded frames, and the moments of a clip at which they are taken: one rule for all parts.

Training and devices decode with PyAV. What they show of a frame, and which frame they take, has to be the
same: both import this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import av

SHORT_SIDE = 256
"""Pixels. Frames are shrunk to this on reading: trunks want 224, and a 4K clip must fit into memory."""
INTO_FRAME = 0.001
"""Seconds. A moment that falls on the border of two frames is meant to show the later one."""
_LONGEST_PAUSE_S = 10.0
"""A clock of a transport or program stream that leaps further ahead has been set anew, as ffmpeg holds."""
_SHORTEST_S, _UNSAID_S = 0.01, 0.1
"""Players show a picture of an animation that asks for less than the first for as long as the second."""


def fitted(width: int, height: int) -> tuple[int, int]:
    """Shrink width and height (never enlarge them) so that the short side is at most SHORT_SIDE."""
    scale = min(1.0, SHORT_SIDE / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def upright(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """Convert a decoded frame to a picture as players show it.

    Args:
        frame: As decoded.
        size: Width and height of the upright picture; None: the frame's own, fitted.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    transposed, flip_x, flip_y = orientation(frame)
    turn = -1 if transposed else 1
    width, height = (size or fitted(frame.width, frame.height)[::turn])[::turn]
    # By the colors that the stream names: PyAV before 17 did not (findings/pyav_bt709_by_version.sh).
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    if transposed:
        small = small.transpose(1, 0, 2)
    return np.ascontiguousarray(small[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Read how a frame has to be turned: transpose it first, then flip it left to right, then upside down.

    The whole display matrix counts. `frame.rotation` cannot express a mirror: it is -180 for a flip from left
    to right and 0 for a flip upside down (findings/pyav_rotation_loses_mirrors.sh). Angles between the right
    ones go to the nearest of them.
    """
    side_data: Any
    try:
        side_data = frame.side_data  # its type says that its items are strings
    except ValueError:  # it holds data of a kind that PyAV has no name for, such as Exif
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
    """Find the stream of moving pictures that players play: no cover, no still picture, the default one.

    Raises:
        ValueError: There is none.
    """
    from av.stream import Disposition

    videos = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not videos:
        raise ValueError("the file holds no video stream")
    # An animated AVIF has a still picture before it.
    moving = [each for each in videos if each.frames != 1] or videos
    return next((each for each in moving if each.disposition & Disposition.default), moving[0])


def frame_rate(stream: Any) -> float:
    """Frames a second, as the codec or the container says; 25 where neither does."""
    return float(stream.guessed_rate or stream.average_rate or 25)


def longest_pause(container: Any) -> float:
    """Seconds beyond which a leap ahead of the clock is no pause: the clock has been set anew."""
    from av.format import Flags

    return _LONGEST_PAUSE_S if container.format.flags & Flags.ts_discont.value else np.inf


def is_animation(path: Path) -> bool:
    """Tell whether a file is a GIF or WebP, which Pillow plays: FFmpeg plays no animated WebP."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:6] in (b"GIF87a", b"GIF89a") or (head[:4], head[8:]) == (b"RIFF", b"WEBP")


def animation(path: Path) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield the pictures of a GIF or WebP, each with the seconds for which it shows."""
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
    """Choose the frames that show at the centers of `count` equal spans of time.

    A frame that shows for long is still taken once, so fewer than `count` may come back.

    Args:
        times: (length,) ascending presentation times in seconds; length >= 1.
        count: how many moments to look at, >= 1.
        end: when the last frame ceases to show; None: it shows for as long as the median frame.

    Returns:
        (<= count,) int, ascending, distinct.
    """
    if end is None or end <= times[-1]:
        end = float(times[-1]) + (float(np.median(np.diff(times))) if len(times) > 1 else 1.0)
    moments = times[0] + (np.arange(count) + 0.5) / count * (end - times[0]) + INTO_FRAME
    shown: np.ndarray = np.searchsorted(times, moments, side="right") - 1
    return np.unique(np.clip(shown, 0, len(times) - 1))
