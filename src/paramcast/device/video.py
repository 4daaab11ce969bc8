"""Clips from a file, a camera or a network stream, by PyAV (the extra `video`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.device.inputs import MAX_FRAMES, Frames
from paramcast.errors import MissingExtraError
from paramcast.pictures import INTO_FRAME, upright

if TYPE_CHECKING:
    import av

_UNTIMED = ("avi",)
"""Containers without presentation times: what FFmpeg makes up for B-frames is out of order."""

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
        seconds: A clip's length; its frames are those that show at the centers of equal spans of it.
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
            stream = container.streams.video[0]
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            timed = _timed(container.decode(stream), 1 / rate, container.format.name not in _UNTIMED)
            yield from _cut(timed, frames, seconds)
    except (av.FFmpegError, OSError) as error:
        raise DeviceInputError(f"{source} cannot be read as video: {error}") from error


def _resolve(source: str) -> tuple[str, dict[str, Any]]:
    """What to open, and the options of `av.open`."""
    kind, _, name = source.partition(":")
    if Path(source).is_file():
        return str(Path(source).absolute()), {}  # else a colon in its name would be a protocol's
    if kind == "camera":
        if sys.platform not in _CAMERAS:
            raise DeviceInputError(f"cameras are not supported on {sys.platform}; give a file or a URL")
        format_, pattern = _CAMERAS[sys.platform]
        return pattern.format(name or "0"), {"format": format_}
    if kind == "rtsp":  # over TCP no packet is lost, so no frame is torn
        return source, {"options": {"rtsp_transport": "tcp"}}
    return source, {}


class _Cutter:
    """Cuts frames that come in into clips.

    Of each clip it takes the frames that show at the centers of equal spans of its time, each once: the same
    moments as `sampling="time"` looks at in training. A picture that stands still is in one clip alone.
    """

    def __init__(self, frames: int, seconds: float, begin: float) -> None:
        self._frames, self._seconds, self._begin = frames, seconds, begin
        self._moment = 0  # which of the clip's moments comes next
        self._clip: list[Frames] = []
        self.fresh: av.VideoFrame | None = None
        """The frame that shows now, until it is taken."""

    def until(self, at: float) -> Iterator[Frames]:
        """Go on to `at` seconds; yield the clips that are then over."""
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
                if self.fresh is None:  # nothing shows up before `at`: no clip is made of that
                    self._begin += max(0.0, (at - self._begin) // self._seconds) * self._seconds

    def rest(self) -> Iterator[Frames]:
        """Yield what the clip has so far, if anything."""
        if self._clip:
            yield np.stack(self._clip)
        self._clip = []


def _cut(
    timed: Iterator[tuple[float, float, av.VideoFrame]], frames: int, seconds: float
) -> Iterator[Frames]:
    cutter: _Cutter | None = None
    end = 0.0
    for at, shows_for, frame in timed:
        cutter = cutter or _Cutter(frames, seconds, at)
        yield from cutter.until(at)
        cutter.fresh, end = frame, at + shows_for
    if cutter is not None:
        yield from cutter.until(end)
        yield from cutter.rest()


def _timed(
    decoded: Iterator[av.VideoFrame], step: float, believed: bool
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Whole frames, each with the second at which it shows, ascending, and for how long; `step` by default.

    A clock that goes back goes on from where it was: cameras set theirs anew, files are joined.
    """
    shift, before = 0.0, 0.0
    for place, frame in enumerate(decoded):
        if frame.is_corrupt:
            continue
        at = (frame.time if believed and frame.time is not None else place * step) + shift
        if place and at < before:
            shift, at = shift + before + step - at, before + step
        before = at
        yield at, float((frame.duration or 0) * (frame.time_base or 0)) or step, frame
