"""Read a few small frames from a video file or a folder of frames, even if the clip is large or long."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paramcast.errors import InputError, MissingExtraError
from paramcast.pictures import fitted, time_indices, upright
from paramcast.video.data.collection import Clip, CollectionError
from paramcast.video.data.movies import (
    Timeline,
    WrongIndexError,
    WrongSpanError,
    counted,
    frames_at,
    timeline,
)
from paramcast.video.data.sampling import (
    check_sampling,
    color_histogram,
    scene_indices,
    scene_starts,
    uniform_indices,
)

if TYPE_CHECKING:
    import av
    from PIL import Image

FRAMES_VERSION = 3
"""Part of every cache key: raise it when a change of the code changes the pixels of a file."""
LOOK_SECONDS = 0.1
LOOK_SIZE = (48, 27)


def read_frames(clip: Clip, count: int = 8, sampling: str = "uniform") -> np.ndarray:
    """Read at most `count` frames of `clip`, in order.

    The memory never holds several frames of full size: each frame is shrunk as soon as it is decoded.

    Args:
        clip: a video file or a list of pictures. Pictures are resized to the size of the first, which may
            change their aspect ratio.
        count: maximal number of frames, >= 1; a clip with fewer frames gives all of them.
        sampling: `uniform` takes the centers of equal segments of the frames. `time` takes the centers of
            equal spans of time, which differ at a variable frame rate; for pictures, which have no time, it
            is the same as `uniform`. `scene` finds scenes by changes of the colors and distributes the
            frames over the scenes.

    Returns:
        (T, H, W, 3) uint8 RGB, 1 <= T <= count, min(H, W) <= 256, aspect ratio kept.

    Raises:
        CollectionError: a file is missing, broken or holds no frame; the error names clip and line.
        InputError: wrong `count` or `sampling`.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    check_sampling(count, sampling)
    _require_decoders()
    try:
        frames = _read_video(clip, count, sampling) if clip.video else _read_folder(clip, count, sampling)
    except Exception as error:  # decoders raise many types on a broken file, even SyntaxError
        raise clip.error(_undecodable(error, clip.paths[0] if clip.video else None)) from error
    return np.stack(frames)


def read_clip(
    path: Path | str,
    count: int = 8,
    sampling: str = "uniform",
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """Read at most `count` frames of the video at `path`, from `start` to `end` seconds; see `read_frames`.

    Raises:
        InputError: As in `read_frames`; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    clip = Clip(path.name, path.parent, 1, video=path.name, start=start, end=end)
    try:
        return read_frames(clip, count, sampling)
    except CollectionError as error:
        said = error.problem.message if error.problem else str(error)
        raise InputError(f"{path}: {said.removesuffix(' or remove the line')}") from error


def undecodable(clip: Clip) -> list[str]:
    """Decode every frame of `clip`; return a message for each broken file. Raises MissingExtraError."""
    _require_decoders()
    faults = []
    for path in clip.paths:
        try:
            if clip.video:
                _counted(path, _stamp(path)).between(clip.start, clip.end)
            else:
                read_image(path)
        except Exception as error:  # as in `read_frames`
            faults.append(_undecodable(error, path if clip.video else None))
    return faults


def _require_decoders() -> None:
    try:
        import av  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reading clips", "video") from error


def _undecodable(error: Exception, path: Path | None = None) -> str:
    if isinstance(error, WrongSpanError):
        return f"{error}; correct start and end"
    return f"cannot decode ({_reason(error, path)}); replace the file or remove the line"


def _reason(error: Exception, path: Path | None) -> str:
    """Describe the fault of a file in plain words, because messages of decoders do not help users."""
    with suppress(OSError):
        head = _head(path) if path else b"?"
        if not head:
            return "the file is empty"
        if head.startswith((b"<!doctype", b"<html", b"<?xml")):
            return "the file is a web page: the download failed"
        if head.startswith(b"version https://git-lfs"):
            return "the file is a pointer of Git LFS: run `git lfs pull`"
    if type(error).__module__.startswith("av."):  # FFmpeg's error numbers do not help users
        return "no video that can be read, or its data are damaged or cut off"
    return str(error) or type(error).__name__


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64).lstrip().lower()


# Frame folders


def _read_folder(clip: Clip, count: int, sampling: str) -> list[np.ndarray]:
    paths = clip.paths
    if sampling == "scene" and len(paths) > count:
        looks = np.stack([color_histogram(read_image(path, LOOK_SIZE)) for path in paths])
        chosen = scene_indices(scene_starts(looks), len(paths), count)
    else:
        chosen = uniform_indices(len(paths), count)
    frames: list[np.ndarray] = []
    for index in chosen:
        size = frames[0].shape[1::-1] if frames else None
        frames.append(read_image(paths[index], size))
    return frames


_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats in which several pictures are frames; in other formats they are pages or thumbnails."""


def read_image(path: Path, size: tuple[int, ...] | None = None) -> np.ndarray:
    """Decode the picture at `path`, upright: (H, W, 3) uint8 RGB of `size` (width, height), else fitted.

    Raises:
        ValueError: the file is broken or an animation; the message starts with the file's name.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format in _ANIMATIONS:
                raise ValueError(f"an animation of {pictures} pictures; name it as `video`")
            image.draft("RGB", fitted(*image.size))  # JPEG shrinks while decoding
            upright = ImageOps.exif_transpose(image)
            # Palettes with transparency are converted to RGBA first; otherwise Pillow warns.
            rgb = upright.convert("RGBA" if "transparency" in upright.info else "RGB").convert("RGB")
            wanted = (size[0], size[1]) if size else fitted(*rgb.size)
            return np.asarray(_resized(rgb, wanted))
    except Exception as error:
        raise ValueError(f"{path.name}: {error}") from error


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


# Video files


def _read_video(clip: Clip, count: int, sampling: str) -> list[np.ndarray]:
    """Read frames by the container's packets if these are right, else by decoding and counting."""
    path = clip.paths[0]
    line = _timeline(path, _stamp(path))
    for seek in (True, False):
        if line is not None:
            with suppress(WrongIndexError):  # if seeking fails, reading from the start may still work
                return _chosen(clip, line, count, sampling, seek)
    return _chosen(clip, _counted(path, _stamp(path)), count, sampling)


def _chosen(clip: Clip, line: Timeline, count: int, sampling: str, seek: bool = True) -> list[np.ndarray]:
    path = clip.paths[0]
    first, last, end = line.between(clip.start, clip.end)
    times = line.times[first:last]
    if sampling == "scene":
        looks = _apart(times)
        histograms = np.stack([_look(frame) for frame in frames_at(path, line, first + looks, seek=False)])
        chosen = looks[scene_indices(scene_starts(histograms), len(looks), count)]
    elif sampling == "time":
        chosen = time_indices(times, count, end)
    else:
        chosen = uniform_indices(len(times), count)
    frames: list[np.ndarray] = []
    for frame in frames_at(path, line, first + chosen, seek):
        height, width = frames[0].shape[:2] if frames else (0, 0)
        frames.append(upright(frame, (width, height) if frames else None))
    if len(frames) < len(chosen):
        raise ValueError(f"only {len(frames)} of {len(chosen)} frames of the video can be decoded")
    return frames


# Many clips may be parts of one video, mostly in sequence. The cache finds the video's timeline only once.


@lru_cache(maxsize=32)
def _timeline(path: Path, stamp: tuple[int, int]) -> Timeline | None:
    return timeline(path)


@lru_cache(maxsize=32)
def _counted(path: Path, stamp: tuple[int, int]) -> Timeline:
    return counted(path)


def _stamp(path: Path) -> tuple[int, int]:
    """Return the size and the modification time of a file, which change when the file changes."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _apart(times: np.ndarray) -> np.ndarray:
    """Choose the indices of frames that are at least LOOK_SECONDS apart, beginning with the first."""
    places = [0]
    for place, time in enumerate(times.tolist()):
        if time >= times[places[-1]] + LOOK_SECONDS - 1e-6:
            places.append(place)
    return np.array(places)


def _look(frame: av.VideoFrame) -> np.ndarray:
    """Compute the `color_histogram` of a small copy of a frame."""
    return color_histogram(frame.reformat(*LOOK_SIZE, format="rgb24", interpolation="AREA").to_ndarray())
