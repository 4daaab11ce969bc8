"""Read clips from a file, a camera or a network stream with PyAV (the extra `video`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.device.inputs import MAX_FRAMES, Frames
from paramcast.errors import MissingExtraError
from paramcast.pictures import (
    INTO_FRAME,
    animation,
    frame_rate,
    is_animation,
    longest_pause,
    moving_stream,
    upright,
)

if TYPE_CHECKING:
    import av

_UNTIMED = ("avi",)
"""Containers with decoding times but no presentation times; with B-frames, FFmpeg invents the latter."""

_CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
    "win32": ("dshow", "video={}"),
}
"""Platform -> FFmpeg's input format for cameras, and the pattern of a camera's name."""


def read_clips(
    source: str, *, frames: int = 8, seconds: float = 4.0, timeout_s: float = 10.0
) -> Iterator[Frames]:
    """Cut a video into clips while it is read. The video of a camera never ends.

    Args:
        source: A file's path; a URL that FFmpeg reads (`rtsp://...`, `http://...`); or `camera:NAME`, where
            NAME is a number on Linux and macOS and the camera's name on Windows.
        frames: Number of frames in a clip, 1..64. A clip has fewer where a picture stands still over several
            spans, and the last clip of a file may have fewer.
        seconds: Length of a clip. Its frames are the ones shown at the centers of `frames` equal spans of
            this time.
        timeout_s: Limit in seconds for opening the source, and for every read of a network stream.

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
        if Path(path).is_file() and is_animation(Path(path)):
            yield from _cut(_played(animation(Path(path))), frames, seconds)
            return
        with av.open(path, timeout=timeout_s, **options) as container:
            yield from _cut(_timed(container, moving_stream(container)), frames, seconds)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and not Path(path).is_file():  # no such camera, or no answer
            raise DeviceInputError(f"{source} cannot be opened: {error.strerror}") from error
        raise DeviceInputError(
            f"{source} cannot be read as video: it is no video, or its data are damaged or cut off"
        ) from error
    except (OSError, ValueError) as error:
        raise DeviceInputError(f"{source} cannot be read as video: {error}") from error


def _resolve(source: str) -> tuple[str, dict[str, Any]]:
    """Return the path or URL to open, and the options of `av.open`."""
    kind, _, name = source.partition(":")
    if Path(source).is_file():
        return str(Path(source).absolute()), {}  # else FFmpeg would read `a:` in a file's name as a protocol
    if kind == "camera":
        if sys.platform not in _CAMERAS:
            raise DeviceInputError(f"cameras are not supported on {sys.platform}; give a file or a URL")
        format_, pattern = _CAMERAS[sys.platform]
        return pattern.format(name or "0"), {"format": format_}
    if kind == "rtsp":  # TCP loses no packets, so no frame is damaged
        return source, {"options": {"rtsp_transport": "tcp"}}
    return source, {}


class _Cutter:
    """Cuts arriving frames into clips.

    A clip holds the frames that are shown at the centers of equal spans of its time, each frame once. These
    are the moments that `sampling="time"` uses in training. A picture that stands still is in one clip only.
    """

    def __init__(self, frames: int, seconds: float, begin: float) -> None:
        self._frames, self._seconds, self._begin = frames, seconds, begin
        self._moment = 0  # index of the clip's next moment
        self._clip: list[Frames] = []
        self.fresh: av.VideoFrame | None = None
        """The frame that is shown now, until a clip has taken it."""

    def until(self, at: float) -> Iterator[Frames]:
        """Advance to `at` seconds and yield the clips that end before."""
        while self._begin + (self._moment + 0.5) / self._frames * self._seconds + INTO_FRAME < at:
            if self.fresh is not None:
                picture, self.fresh = upright(self.fresh), None
                if self._clip and picture.shape != self._clip[0].shape:  # the stream has changed its size
                    yield from self.rest()
                self._clip.append(picture)
            self._moment += 1
            if self._moment == self._frames:
                yield from self.rest()
                self._begin, self._moment = self._begin + self._seconds, 0
                if self.fresh is None:  # no new frame comes before `at`, so skip the clips until then
                    self._begin += max(0.0, (at - self._begin) // self._seconds) * self._seconds

    def rest(self) -> Iterator[Frames]:
        """Yield the frames of the unfinished clip, if there are any."""
        if self._clip:
            yield np.stack(self._clip)
        self._clip = []


def _cut(
    timed: Iterator[tuple[float, float, av.VideoFrame]], frames: int, seconds: float
) -> Iterator[Frames]:
    cutter: _Cutter | None = None
    end, given = 0.0, False
    for at, shows_for, frame in timed:
        cutter = cutter or _Cutter(frames, seconds, at)
        for clip in cutter.until(at):
            given = True
            yield clip
        cutter.fresh, end = frame, at + shows_for
    if cutter is not None:
        for clip in (*cutter.until(end), *cutter.rest()):
            given = True
            yield clip
        if not given and cutter.fresh is not None:  # the video ends before the first moment
            yield upright(cutter.fresh)[None]


def _played(
    pictures: Iterator[tuple[av.VideoFrame, float]],
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    at = 0.0
    for frame, shows_for in pictures:
        yield at, shows_for, frame
        at += shows_for


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yield undamaged frames, each after the second at which it is shown (ascending) and its duration.

    Where the clock jumps back or too far ahead, the times continue from the frame before: cameras reset their
    clocks, and files are joined.
    """
    step, pause = 1 / frame_rate(stream), longest_pause(container)
    shift, before = 0.0, 0.0
    for place, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            continue
        time = frame.time
        if container.format.name in _UNTIMED:
            time = None if frame.dts is None else float(frame.dts * frame.time_base)
        at = before + step if time is None else time + shift
        if place and not before <= at <= before + pause:
            shift, at = shift + before + step - at, before + step
        before = at
        yield at, float((frame.duration or 0) * (frame.time_base or 0)) or step, frame
