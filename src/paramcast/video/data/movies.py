"""Video files: find the frames that a player shows and their times, and read some without decoding all.

In most files, the packets of the container give the times of the frames. In other files, every frame is
decoded and counted. Both ways find the frames that a player shows; `Timeline` says which way was used.
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
"""Codecs with separate packets for frames that are never shown."""


class WrongSpanError(ValueError):
    """The requested part of a video does not exist."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a video as a player shows them.

    Attributes:
        times: (n,) float64, seconds from the start of the file, ascending; n >= 1.
        end: Seconds; the time at which the last frame disappears.
        positions: (n,) int, presentation times in the stream's units, for seeking; None if the container's
            times are not reliable: frames are then found by counting.
        keys: (k,) int: the positions of the frames at which decoding can begin.
    """

    times: np.ndarray
    end: float
    positions: np.ndarray | None = None
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def between(self, start: float | None, end: float | None) -> tuple[int, int, float]:
        """Find the frames from `start` to `end` (seconds from the file's start).

        These are the frames that begin in the span. If no frame does, it is the frame that shows at `start`.

        Returns:
            Index of the first frame, index after the last frame, and the time at which the last disappears.

        Raises:
            WrongSpanError: The video ends before `start`.
        """
        if start is None and end is None:
            return 0, len(self.times), self.end
        start = start or 0.0
        if start >= self.end:
            raise WrongSpanError(f"start {start:g} s lies after the end of the video, {self.end:g} s")
        edge = 1e-6  # seconds; binary floats do not represent the times exactly
        first = int(np.searchsorted(self.times, start - edge))
        last = len(self.times) if end is None else int(np.searchsorted(self.times, end - edge))
        if first >= last:
            first = max(0, int(np.searchsorted(self.times, start + edge)) - 1)
            last = first + 1
        return first, last, self.end if end is None else min(end, self.end)


class WrongIndexError(Exception):
    """A container's packets and its frames do not agree."""


def timeline(path: Path) -> Timeline | None:
    """Read the timeline from the packets alone; return None if the packets are not reliable.

    Packets that only help to decode other frames, and are not shown, are left out: a file that was cut
    without encoding has them before its start, and `stream.frames` counts them
    (findings/pyav_counts_discarded_packets.sh).

    Raises:
        ValueError: The file holds no video stream.
        av.FFmpegError: The file cannot be read.
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
    """Decode every frame and record its time.

    Where the clock goes back, as in joined files, the times continue from the end of the frame before. The
    same holds where the clock of a transport or program stream leaps ahead.

    Raises:
        ValueError: There is no video stream or no frame, or a frame is damaged.
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
        if container.format.name == "avi":  # AVI has times of decoding, but no times of presentation
            times = _followed([dts for _, dts, _ in frames], unit, frame_rate(stream))
        elif all(pts is not None for pts, _, _ in frames):
            origin = _origin(container, stream, frames[0][0] or 0)
            times = (np.array([pts for pts, _, _ in frames], np.float64) - origin) * unit
        else:
            times = np.arange(len(frames)) / frame_rate(stream)
        times = unrolled(times, longest_pause(container))
    return Timeline(times, _end(times, (frames[-1][2] or 0) * unit))


def _followed(due: Sequence[int | None], unit: float, rate: float) -> np.ndarray:
    """Compute times (n,) from the first frame by the decoding times; an unknown time is one frame later."""
    times = [0.0]
    for at in due[1:]:
        after = times[-1] + 1 / rate
        times.append(after if at is None or due[0] is None else (at - due[0]) * unit)
    return np.array(times)


def unrolled(times: np.ndarray, jump: float = np.inf) -> np.ndarray:
    """Make times (n,) ascend: where the clock goes back, or ahead by more than `jump`, it was reset."""
    steps = np.diff(times)
    anew = (steps <= 0) | (steps > jump)
    step = float(np.median(steps[~anew])) if not anew.all() else 1.0
    moved = np.concatenate([[0.0], np.cumsum(np.where(anew, step - steps, 0.0))])
    ascending: np.ndarray = times + moved
    return ascending


def frames_at(path: Path, line: Timeline, places: Sequence[int] | np.ndarray, seek: bool = True) -> Any:
    """Yield the frames at `places` (ascending), in order.

    Args:
        path: Path of the video.
        line: Timeline of the video.
        places: Indices of frames of the timeline.
        seek: Whether to skip the frames between them, where the file allows it.

    Yields:
        `av.VideoFrame`.

    Raises:
        WrongIndexError: The timeline was read from packets, and the frames do not agree with the packets.
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
    """Open a video: yield the container and the stream of moving pictures that players play.

    Raises:
        ValueError: The file has no such stream.
    """
    import av

    with av.open(path.absolute()) as container:  # a relative name with a colon would be read as a protocol
        yield container, moving_stream(container)


def decoded(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """Yield the frames from the current position of the container; raise ValueError for a damaged frame."""
    for frame in container.decode(stream):
        if frame.is_corrupt:
            raise ValueError(f"damaged frame at {frame.time} s")
        yield frame


def _believed(container: Any, stream: Any, packets: Sequence[Any], shown: Sequence[Any]) -> bool:
    """Check whether each packet in `shown` reliably gives the frame of its presentation time."""
    if any(packet.pts is None or packet.is_corrupt for packet in packets):
        return False
    # AVI has no presentation times; FFmpeg makes them up, and with B-frames they are in the wrong order
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
    """Check whether the clock goes back between two packets, or packets between them seem to be lost."""
    if packet.dts is None or after.dts is None:
        return False
    step = after.dts - packet.dts
    return step < 0 or bool(packet.duration and step > 1.5 * packet.duration + 1)


def _origin(container: Any, stream: Any, first: int) -> float:
    """Return the start of the file, from which players count, in units of the stream."""
    if container.start_time is None:
        return first
    return float(container.start_time / 1_000_000 / stream.time_base)


def _end(times: np.ndarray, shows_for: float) -> float:
    """Return when the last frame disappears; an unknown duration is the median duration of the frames."""
    if shows_for <= 0:
        shows_for = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return float(times[-1]) + shows_for
