"""Clips from a file, a camera or a network stream, by PyAV (the extra `video`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.device.inputs import MAX_FRAMES, Frames
from paramcast.errors import MissingExtraError

if TYPE_CHECKING:
    import av

SHORT_SIDE = 256
"""Pixels; larger frames are shrunk, as those that models are trained on were."""

_CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
    "win32": ("dshow", "video={}"),
}
"""Platform -> FFmpeg's input format for cameras, and how it names one."""


def read_clips(
    source: str, *, frames: int = 8, seconds: float = 4.0, timeout_s: float = 10.0
) -> Iterator[Frames]:
    """Cut a video into clips as it comes; ends with the video, a camera's never.

    Args:
        source: A file's path; a URL that FFmpeg reads (`rtsp://...`, `http://...`); or `camera:NAME`, where
            NAME is a number on Linux and macOS and the camera's name on Windows.
        frames: A clip's frames, 1..64; the last clip of a file may have fewer.
        seconds: A clip's length.
        timeout_s: Of opening and of every read of a network stream.

    Yields:
        (T, H, W, 3) uint8 RGB, upright, the short side at most 256 pixels.

    Raises:
        DeviceInputError: The source cannot be opened or decoded, or an argument is out of its range.
        MissingExtraError: PyAV is not installed.
    """
    if not 1 <= frames <= MAX_FRAMES or seconds <= 0:
        raise DeviceInputError(f"a clip has 1 to {MAX_FRAMES} frames and more than 0 seconds")
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading video", "video") from error
    path, options = _resolve(source)
    try:
        with av.open(path, timeout=timeout_s, **options) as container:
            if not container.streams.video:
                raise DeviceInputError(f"{source} has no video stream")
            yield from _cut(container.decode(container.streams.video[0]), frames, seconds / frames)
    except (av.FFmpegError, OSError) as error:
        raise DeviceInputError(f"{source} cannot be read as video: {error}") from error


def _resolve(source: str) -> tuple[str, dict[str, Any]]:
    """What to open, and the options of `av.open`."""
    kind, _, name = source.partition(":")
    if kind == "camera":
        if sys.platform not in _CAMERAS:
            raise DeviceInputError(f"cameras are not supported on {sys.platform}; give a file or a URL")
        format_, pattern = _CAMERAS[sys.platform]
        return pattern.format(name or "0"), {"format": format_}
    if kind == "rtsp":  # over TCP no packet is lost, so no frame is torn
        return source, {"options": {"rtsp_transport": "tcp"}}
    return source, {}


def _cut(decoded: Iterator[av.VideoFrame], frames: int, apart: float) -> Iterator[Frames]:
    """Every `apart` seconds a frame, so many a clip. Frames without times count as 25 a second."""
    clip: list[Frames] = []
    due: float | None = None
    for place, frame in enumerate(decoded):
        at = frame.time if frame.time is not None else place / 25
        if frame.is_corrupt or (due is not None and at < due):
            continue
        # A stream that stood still is not made up for.
        due = at + apart if due is None or at > due + apart else due + apart
        picture = _upright(frame)
        if clip and picture.shape != clip[0].shape:  # the stream has changed its size
            yield np.stack(clip)
            clip = []
        clip.append(picture)
        if len(clip) == frames:
            yield np.stack(clip)
            clip = []
    if clip:
        yield np.stack(clip)


def _upright(frame: av.VideoFrame) -> Frames:
    scale = min(1.0, SHORT_SIDE / min(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4))
