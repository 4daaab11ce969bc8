"""Video files: which frames a player shows and when, and getting some of them without decoding the others.

The packets of a container tell where its frames are, mostly. Where they do not, every frame is decoded and
counted. What is given out is always what a player shows: `Timeline` says which way it was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.pictures import animation, frame_rate, is_animation, longest_pause, moving_stream

if TYPE_CHECKING:
    import av

HIDDEN_FRAMES = frozenset({"vp8"})
"""Codecs with packets of their own for frames that are never shown."""


class WrongSpanError(ValueError):
    """A part of a video is meant that is not there."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a video as a player shows them.

    Attributes:
        times: (n,) float64, seconds from the start of the file, ascending; n >= 1.
        end: Seconds; when the last frame ceases to show.
        positions: (n,) int, presentation times in the stream's units, by which frames are sought; None where
            the container's times cannot be believed: frames are then found by counting.
        keys: (k,) int: the positions of those frames at which decoding can begin.
    """

    times: np.ndarray
    end: float
    positions: np.ndarray | None = None
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def between(self, start: float | None, end: float | None) -> tuple[int, int, float]:
        """Find what shows from `start` to `end` (seconds from the file's start).

        Frames that begin in the span count; where none does, the one that shows at its start.

        Returns:
            First place, place behind the last, and the moment at which the last ceases to show.

        Raises:
            WrongSpanError: The video is over before `start`.
        """
        if start is None and end is None:
            return 0, len(self.times), self.end
        start = start or 0.0
        if start >= self.end:
            raise WrongSpanError(f"start {start:g} s lies behind the end of the video, {self.end:g} s")
        edge = 1e-6  # seconds; times are multiples of fractions that binary numbers do not hit
        first = int(np.searchsorted(self.times, start - edge))
        last = len(self.times) if end is None else int(np.searchsorted(self.times, end - edge))
        if first >= last:
            first = max(0, int(np.searchsorted(self.times, start + edge)) - 1)
            last = first + 1
        return first, last, self.end if end is None else min(end, self.end)


class WrongIndexError(Exception):
    """A container's packets and its frames do not agree."""


def timeline(path: Path) -> Timeline | None:
    """Read the timeline from the packets alone; None where they cannot be believed.

    Packets that are there to decode from, and not to be shown, are left out: a cut by copy has them before
    its start, `stream.frames` counts them (findings/pyav_counts_discarded_packets.sh).

    Raises:
        ValueError: The file holds no video stream.
        av.FFmpegError: It cannot be read.
    """
    if is_animation(path):
        return None
    with opened(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        shown = [packet for packet in packets if not packet.is_discard]
        if not shown or not _believed(container, stream, packets, shown):
            return None
        positions = np.sort(np.array([packet.pts for packet in shown], np.int64))
        keys = np.sort(np.array([packet.pts for packet in packets if packet.is_keyframe], np.int64))
        unit = float(stream.time_base)
        origin = _origin(container, stream, int(positions[0]))
        times = (positions - origin) * unit
        if (np.diff(times) > longest_pause(container)).any():
            return None
        shows_for = max(shown, key=lambda packet: packet.pts).duration * unit
    return Timeline(times, _end(times, shows_for), positions, keys)


def counted(path: Path) -> Timeline:
    """Decode every frame and note when it shows.

    A clock that goes back, as in joined files, begins anew where the frame before it ends. So does one of a
    transport or program stream that leaps ahead.

    Raises:
        ValueError: No video stream, no frame, or a damaged one.
        av.FFmpegError: The file cannot be read.
    """
    if is_animation(path):
        shown = [duration for _, duration in animation(path)]
        times = np.concatenate([[0.0], np.cumsum(shown)])
        return Timeline(times[:-1], float(times[-1]))
    with opened(path) as (container, stream):
        unit = float(stream.time_base)
        frames = [(frame.pts, frame.dts, frame.duration) for frame in decoded(container, stream)]
        if not frames:
            raise ValueError("the video holds no frames")
        if container.format.name == "avi":  # it says when packets are decoded, not when frames show
            times = _followed([dts for _, dts, _ in frames], unit, frame_rate(stream))
        elif all(pts is not None for pts, _, _ in frames):
            origin = _origin(container, stream, frames[0][0] or 0)
            times = (np.array([pts for pts, _, _ in frames], np.float64) - origin) * unit
        else:
            times = np.arange(len(frames)) / frame_rate(stream)
        times = unrolled(times, longest_pause(container))
    return Timeline(times, _end(times, (frames[-1][2] or 0) * unit))


def _followed(due: Sequence[int | None], unit: float, rate: float) -> np.ndarray:
    """Count times (n,) from the first frame by when each came out; where that is unknown, a frame further."""
    times = [0.0]
    for at in due[1:]:
        after = times[-1] + 1 / rate
        times.append(after if at is None or due[0] is None else (at - due[0]) * unit)
    return np.array(times)


def unrolled(times: np.ndarray, jump: float = np.inf) -> np.ndarray:
    """Make times (n,) ascend: a clock that goes back, or more than `jump` ahead, has been set anew."""
    steps = np.diff(times)
    anew = (steps <= 0) | (steps > jump)
    step = float(np.median(steps[~anew])) if not anew.all() else 1.0
    moved = np.concatenate([[0.0], np.cumsum(np.where(anew, step - steps, 0.0))])
    ascending: np.ndarray = times + moved
    return ascending


def frames_at(path: Path, line: Timeline, places: Sequence[int] | np.ndarray, seek: bool = True) -> Any:
    """Yield the frames at `places` (ascending), in order.

    Args:
        path: Of the video.
        line: Its timeline.
        places: Among the frames of the timeline.
        seek: Whether to skip what lies between them, where that can be.

    Yields:
        `av.VideoFrame`.

    Raises:
        WrongIndexError: The timeline was read from packets, and the frames are not as they say.
        ValueError: A frame is damaged.
    """
    import av

    if line.positions is None:
        yield from _by_count(path, places)
        return
    positions, keys = line.positions, line.keys if seek else line.keys[:0]
    with opened(path) as (container, stream):
        frames, at = decoded(container, stream), -np.inf
        for target in positions[np.asarray(places)].tolist():
            key = keys[np.searchsorted(keys, target, side="right") - 1] if len(keys) else -np.inf
            if len(keys) and key > max(at, keys[0]):
                try:
                    container.seek(int(key), stream=stream)
                except av.FFmpegError as error:  # some raw streams can only be read from their start
                    raise WrongIndexError from error
                frames = decoded(container, stream)
            frame = next((frame for frame in frames if frame.pts is None or frame.pts >= target), None)
            if frame is None or frame.pts != target:
                raise WrongIndexError
            at = target
            yield frame


def _by_count(path: Path, places: Sequence[int] | np.ndarray) -> Iterator[Any]:
    wanted = set(np.asarray(places).tolist())
    if is_animation(path):
        yield from (frame for place, (frame, _) in enumerate(animation(path)) if place in wanted)
        return
    with opened(path) as (container, stream):
        for place, frame in enumerate(decoded(container, stream)):
            if place in wanted:
                yield frame
            if place >= max(wanted):
                return


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video: the container and its first stream of moving pictures.

    Raises:
        ValueError: It has none.
    """
    import av

    with av.open(path.absolute()) as container:  # else a colon in its name would be a protocol's
        yield container, moving_stream(container)


def decoded(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """Frames from where the container stands; damaged ones raise ValueError."""
    for frame in container.decode(stream):
        if frame.is_corrupt:
            raise ValueError(f"damaged frame at {frame.time} s")
        yield frame


def _believed(container: Any, stream: Any, packets: Sequence[Any], shown: Sequence[Any]) -> bool:
    """Whether each packet that is to be shown gives the frame of its presentation time."""
    if any(packet.pts is None or packet.is_corrupt for packet in packets):
        return False
    # AVI has no presentation times; with B-frames those that FFmpeg makes up are in the wrong order
    # (findings/avi_bframes_out_of_order.sh).
    if container.format.name == "avi" and not all(packet.is_keyframe for packet in packets):
        return False
    if stream.codec_context.name in HIDDEN_FRAMES or not packets[0].is_keyframe:
        return False
    times = [packet.pts for packet in shown]
    if len(set(times)) < len(times) or min(packet.pts for packet in packets) < packets[0].pts:
        return False
    return not any(_broken_off(*pair) for pair in pairwise(packets))


def _broken_off(packet: Any, after: Any) -> bool:
    """Whether the clock goes back between two packets, or packets between them seem to be lost."""
    if packet.dts is None or after.dts is None:
        return False
    step = after.dts - packet.dts
    return step < 0 or bool(packet.duration and step > 1.5 * packet.duration + 1)


def _origin(container: Any, stream: Any, first: int) -> float:
    """The start of the file, from which players count, in units of the stream."""
    if container.start_time is None:
        return first
    return float(container.start_time / 1_000_000 / stream.time_base)


def _end(times: np.ndarray, shows_for: float) -> float:
    """When the last frame ceases to show; as long as the median frame where nobody says."""
    if shows_for <= 0:
        shows_for = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return float(times[-1]) + shows_for
