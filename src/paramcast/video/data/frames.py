"""Frames out of video files and frame folders, small and few, however large or long the clip is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.errors import MissingExtraError
from paramcast.video.data.collection import Clip
from paramcast.video.data.sampling import (
    check_sampling,
    colour_histogram,
    scene_indices,
    scene_starts,
    time_indices,
    uniform_indices,
)

if TYPE_CHECKING:
    import av
    from PIL import Image

SHORT_SIDE = 256
"""Frames are shrunk to this on reading: trunks want 224, and a 4K clip must fit into memory."""
FRAMES_VERSION = 1
"""Part of every cache key: raise it when the same file would give other pixels."""
LOOK_SECONDS = 0.1
LOOK_SIZE = (48, 27)


def read_frames(clip: Clip, count: int = 8, sampling: str = "uniform") -> np.ndarray:
    """Read at most `count` frames of `clip`, in order.

    Full-size frames are never held together: each is shrunk as it is decoded.

    Args:
        clip: a video file or a list of pictures. Pictures of another size than the first are stretched to it.
        count: how many frames at most, >= 1; a clip with fewer gives all it has.
        sampling: `uniform` takes the centres of equal segments of the frames, `time` those of equal spans of
            time (they differ at a variable frame rate; pictures have no time, there it is `uniform`), `scene`
            cuts where the colours change and spreads the frames over the scenes.

    Returns:
        (T, H, W, 3) uint8 RGB, 1 <= T <= count, min(H, W) <= 256, aspect ratio kept.

    Raises:
        CollectionError: a file is missing, broken or holds no frame; names clip and line.
        InputError: wrong `count` or `sampling`.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    check_sampling(count, sampling)
    _require_decoders()
    try:
        frames = _read_video(clip, count, sampling) if clip.video else _read_folder(clip, count, sampling)
    except Exception as error:  # what decoders raise on a broken file is an open list (SyntaxError is on it)
        raise clip.error(_undecodable(error)) from error
    return np.stack(frames)


def undecodable(clip: Clip) -> list[str]:
    """Decode every frame of `clip`: a message for each file that is broken. Raises MissingExtraError."""
    _require_decoders()
    decode = _decode_whole_video if clip.video else read_image
    faults = []
    for path in clip.paths:
        try:
            decode(path)
        except Exception as error:  # as in `read_frames`
            faults.append(_undecodable(error))
    return faults


def _require_decoders() -> None:
    try:
        import av  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reading clips", "video") from error


def _undecodable(error: Exception) -> str:
    return f"cannot decode ({str(error) or type(error).__name__}); replace the file or remove the line"


def _fitted(width: int, height: int) -> tuple[int, int]:
    """Width and height shrunk (never enlarged) so that the short side is at most SHORT_SIDE."""
    scale = min(1.0, SHORT_SIDE / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


# Frame folders


def _read_folder(clip: Clip, count: int, sampling: str) -> list[np.ndarray]:
    paths = clip.paths
    if sampling == "scene" and len(paths) > count:
        looks = np.stack([colour_histogram(read_image(path, LOOK_SIZE)) for path in paths])
        chosen = scene_indices(scene_starts(looks), len(paths), count)
    else:
        chosen = uniform_indices(len(paths), count)
    frames: list[np.ndarray] = []
    for index in chosen:
        size = frames[0].shape[1::-1] if frames else None
        frames.append(read_image(paths[index], size))
    return frames


def read_image(path: Path, size: tuple[int, ...] | None = None) -> np.ndarray:
    """Decode the picture at `path`, upright: (H, W, 3) uint8 RGB of `size` (width, height), else fitted.

    Raises:
        Exception: whatever Pillow raises on a broken file; its message is prefixed with the file's name.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.draft("RGB", _fitted(*image.size))  # JPEG shrinks while decoding
            upright = ImageOps.exif_transpose(image)
            # Palettes with transparency go to RGB by way of RGBA, Pillow warns otherwise.
            rgb = upright.convert("RGBA" if "transparency" in upright.info else "RGB").convert("RGB")
            wanted = (size[0], size[1]) if size else _fitted(*rgb.size)
            return np.asarray(_resized(rgb, wanted))
    except Exception as error:
        raise ValueError(f"{path.name}: {error}") from error


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


# Video files


@dataclass(frozen=True)
class _Index:
    """Where the frames of a video are, from its packets: nothing is decoded.

    `positions` (n,) int: presentation times in units of the stream's time base, ascending, or 0..n-1 when the
    container has no times (`timed` false). `keys` (k,) int: the positions of those frames that can be sought.
    """

    positions: np.ndarray
    keys: np.ndarray
    timed: bool


def _read_video(clip: Clip, count: int, sampling: str) -> list[np.ndarray]:
    path = clip.paths[0]
    index = _index(path)
    if not len(index.positions):
        raise ValueError("the video holds no frames")
    if sampling == "scene":
        looks, histograms = _looks(path, index)
        targets = looks[scene_indices(scene_starts(histograms), len(looks), count)]
    else:
        pick = time_indices(index.positions, count) if sampling == "time" else None
        targets = index.positions[uniform_indices(len(index.positions), count) if pick is None else pick]
    try:
        return _frames_at(path, index, targets, index.keys)
    except _MissedSeekError:
        return _frames_at(path, index, targets, index.keys[:0])


def _index(path: Path) -> _Index:
    import av

    with av.open(path) as container:
        stream = _video_stream(container)
        packets = [(packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size]
    if any(pts is None for pts, _ in packets):
        return _Index(np.arange(len(packets)), np.empty(0, np.int64), timed=False)
    positions = np.unique(np.array([pts for pts, _ in packets], np.int64))
    return _Index(positions, np.unique(np.array([pts for pts, key in packets if key], np.int64)), timed=True)


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("the file holds no video stream")
    return container.streams.video[0]


def _decode(container: Any, stream: Any, timed: bool) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames from where the container stands, each with its position; damaged ones raise ValueError."""
    for place, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise ValueError(f"damaged frame at {frame.time} s")
        yield (frame.pts if timed else place), frame


def _decode_whole_video(path: Path) -> None:
    import av

    with av.open(path) as container:
        if not sum(1 for _ in _decode(container, _video_stream(container), timed=False)):
            raise ValueError("the video holds no frames")


class _MissedSeekError(Exception):
    """A seek landed behind the frame that was wanted: the container's index is wrong."""


def _frames_at(
    path: Path, index: _Index, targets: Sequence[int] | np.ndarray, keys: np.ndarray
) -> list[np.ndarray]:
    """The frames at `targets` (ascending positions), seeking to one of `keys` where that skips anything."""
    import av

    frames: list[np.ndarray] = []
    position: float = -math.inf
    with av.open(path) as container:
        stream = _video_stream(container)
        decoder = _decode(container, stream, index.timed)
        for target in targets:
            key = keys[np.searchsorted(keys, target, side="right") - 1] if len(keys) else -math.inf
            sought = keys[0] < key and key > position if len(keys) else False
            if sought:
                container.seek(int(key), stream=stream)
                decoder = _decode(container, stream, index.timed)
            elif position >= target:
                continue  # its packet gave no frame of its own: the one after it has been taken
            for position, frame in decoder:
                if position >= target:
                    frames.append(_shrunk(frame, frames))
                    break
                sought = False
            if sought and position > target:
                raise _MissedSeekError
    if not frames:
        raise ValueError("no frame of the video can be decoded")
    return frames


def _shrunk(frame: av.VideoFrame, before: list[np.ndarray]) -> np.ndarray:
    """`frame` as upright (H, W, 3) uint8 RGB, in the size of the frames before it."""
    turns = round(frame.rotation / 90) % 4
    width, height = before[0].shape[1::-1] if before else _fitted(frame.width, frame.height)[:: (-1) ** turns]
    width, height = (width, height)[:: (-1) ** turns]
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))


def _looks(path: Path, index: _Index) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) int and colour histograms (n, 64) of frames at least LOOK_SECONDS apart, all the way."""
    import av

    positions: list[int] = []
    histograms: list[np.ndarray] = []
    with av.open(path) as container:
        stream = _video_stream(container)
        apart = LOOK_SECONDS / float(stream.time_base) if index.timed else 1
        for position, frame in _decode(container, stream, index.timed):
            if not positions or position >= positions[-1] + apart:
                small = frame.reformat(*LOOK_SIZE, format="rgb24", interpolation="AREA")
                positions.append(position)
                histograms.append(colour_histogram(small.to_ndarray()))
    if not positions:
        raise ValueError("no frame of the video can be decoded")
    return np.array(positions), np.stack(histograms)
