"""Features of clips and texts: read, changed by simulated cameras, encoded and cached, each only once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import numpy as np
from tqdm import tqdm

from paramcast.errors import InputError
from paramcast.video.data.cache import FeatureCache, digest, digest_files
from paramcast.video.data.collection import Clip, Collection
from paramcast.video.data.frames import FRAMES_VERSION, read_frames
from paramcast.video.data.sampling import check_sampling
from paramcast.video.encoders.base import ImageEncoder, TextEncoder

FRAMES_A_BATCH = 32
TEXTS_A_BATCH = 256
READERS = os.cpu_count() or 1


class AnyCamera(Protocol):
    """Interface of a camera, as a feature store uses it."""

    @property
    def key(self) -> str:
        """Exact and stable key: equal keys give equal pictures."""

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """Change frames (T, H, W, 3) uint8; return a new array of the same shape and dtype."""


Request = tuple[str, Sequence[AnyCamera]]
Known = Iterable[tuple[Request, np.ndarray]]
"""Clips with their cameras, and their features (T, D) float32, read-only."""

Frames = list[tuple[bytes, np.ndarray]]


class FeatureStore:
    """Store of the features of a collection's clips and of any texts.

    Features are kept in memory and in the feature cache, by content. So an interrupted run continues, a clip
    in two collections is encoded once, and a changed file is encoded again. A store does not notice changes
    of files while it is open; the next store does.

    Args:
        collection: collection of the clips.
        image: encoder of frames.
        text: encoder of texts.
        frames: maximal number of frames of a clip.
        sampling: how the frames are chosen, see `read_frames`.
    """

    def __init__(
        self,
        collection: Collection,
        image: ImageEncoder,
        text: TextEncoder,
        frames: int = 8,
        sampling: str = "uniform",
    ) -> None:
        check_sampling(frames, sampling)
        self.collection = collection
        self.image = image
        self.text = text
        self.frames = frames
        self.sampling = sampling
        self._cache = FeatureCache()
        self._memory: dict[bytes, np.ndarray] = {}
        self._content: dict[str, bytes] = {}

    def clips(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Return the features of clips, seen through their cameras.

        Args:
            requests: Pairs (clip id, cameras); cameras are applied in order, () leaves the clip unchanged.

        Returns:
            For each request (T, D) float32, read-only, 1 <= T <= frames.

        Raises:
            InputError: an id is not in the collection.
            CollectionError: a clip cannot be read.
        """
        self._hash(dict.fromkeys(clip_id for clip_id, _ in requests))
        keys = [self._clip_key(*request) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        missing = {key: wanted[key] for key in self._recall(list(wanted))}
        if missing:
            self._encode_clips(missing)
        return [self._memory[key] for key in keys]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return the features of N >= 0 texts: (N, D) float32, L2-normalized."""
        wanted = {digest("text", self.text.fingerprint, text): text for text in texts}
        # Sort by length, so that the texts of a batch have similar numbers of tokens.
        missing = sorted(self._recall(list(wanted)), key=lambda key: len(wanted[key]))
        with tqdm(total=len(missing), desc="texts", unit="text", disable=_quiet(missing)) as bar:
            for first in range(0, len(missing), TEXTS_A_BATCH):
                batch = missing[first : first + TEXTS_A_BATCH]
                features = self.text([wanted[key] for key in batch])
                self._keep({key: feature[None] for key, feature in zip(batch, features, strict=True)})
                bar.update(len(batch))
        rows = [self._memory[digest("text", self.text.fingerprint, text)] for text in texts]
        return np.concatenate([np.empty((0, self.text.dim), np.float32), *rows])

    def remember(self, known: Known) -> None:
        """Keep features of the same clips from another store, only in memory."""
        for (clip_id, cameras), features in known:
            self._hash({clip_id: None})
            self._memory[self._clip_key(clip_id, cameras)] = features

    def forget(self) -> None:
        """Remove all features from memory; the cache keeps them."""
        self._memory.clear()

    def _clip(self, clip_id: str) -> Clip:
        try:
            return self.collection.by_id[clip_id]
        except KeyError:
            raise InputError(f"there is no clip {clip_id!r} in collection {self.collection.name!r}") from None

    def _hash(self, clip_ids: dict[str, None]) -> None:
        """Hash the files of the clips that this store has not hashed yet."""
        new = [self._clip(clip_id) for clip_id in clip_ids if clip_id not in self._content]
        with ThreadPoolExecutor(READERS) as pool:
            for clip, content in zip(new, pool.map(_content, new), strict=True):
                self._content[clip.id] = content

    def _clip_key(self, clip_id: str, cameras: Sequence[AnyCamera]) -> bytes:
        clip = self._clip(clip_id)
        settings = (
            FRAMES_VERSION,
            _decoder(),
            self.frames,
            self.sampling,
            self.image.fingerprint,
            *_span(clip),
        )
        return digest("clip", self._content[clip_id], *settings, *(camera.key for camera in cameras))

    def _recall(self, keys: list[bytes]) -> list[bytes]:
        """Load the features that are not in memory from the cache; return the keys that are in neither."""
        unknown = [key for key in keys if key not in self._memory]
        if unknown:
            self._memory.update(self._cache.get(unknown))
        return [key for key in unknown if key not in self._memory]

    def _keep(self, features: dict[bytes, np.ndarray]) -> None:
        self._cache.put(features)
        for value in features.values():
            value.flags.writeable = False
        self._memory.update(features)

    def _encode_clips(self, missing: dict[bytes, Request]) -> None:
        """Encode and keep `missing`, in batches of frames of one size; a batch may hold several clips."""
        waiting: dict[tuple[int, ...], Frames] = {}
        with tqdm(total=len(missing), desc="clips", unit="clip", disable=_quiet(missing)) as bar:

            def encode(some: Frames) -> None:
                features = self.image(np.concatenate([frames for _, frames in some]))
                ends = np.cumsum([len(frames) for _, frames in some])[:-1]
                # Copy: a view would keep the features of the whole batch in memory.
                parts = [part.copy() for part in np.split(features, ends)]
                self._keep({key: part for (key, _), part in zip(some, parts, strict=True)})
                bar.update(len(some))

            for key, frames in self._read(missing):
                some = waiting.setdefault(frames.shape[1:], [])
                some.append((key, frames))
                # The total is limited too: clips of many sizes would fill the memory.
                if sum(len(frames) for _, frames in some) >= FRAMES_A_BATCH:
                    encode(waiting.pop(frames.shape[1:]))
                elif sum(len(each) for each in waiting.values()) >= FRAMES_A_BATCH:
                    encode(waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
            for some in waiting.values():
                encode(some)

    def _read(self, missing: dict[bytes, Request]) -> Iterator[tuple[bytes, np.ndarray]]:
        """Yield key and frames of `missing`; readers work ahead, but only by a limited number of clips."""
        by_clip: dict[str, list[tuple[bytes, Sequence[AnyCamera]]]] = {}
        for key, (clip_id, cameras) in missing.items():
            by_clip.setdefault(clip_id, []).append((key, cameras))
        running: deque[Future[Frames]] = deque()
        pool = ThreadPoolExecutor(READERS)
        try:
            for clip_id, views in by_clip.items():
                running.append(pool.submit(self._views, self._clip(clip_id), views))
                if len(running) > 4 * READERS:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _views(self, clip: Clip, views: list[tuple[bytes, Sequence[AnyCamera]]]) -> Frames:
        """Read a clip once and apply the cameras of each of `views` to it."""
        frames = read_frames(clip, self.frames, self.sampling)
        seen = []
        for key, cameras in views:
            shown = frames
            for camera in cameras:
                shown = camera.apply(shown)
            seen.append((key, shown))
        return seen


@cache
def _decoder() -> str:
    """Return the decoder's version: colors may differ by version (findings/pyav_bt709_by_version.sh)."""
    try:
        return version("av")
    except PackageNotFoundError:
        return "none"


def _span(clip: Clip) -> tuple[str, ...]:
    """Return a part of the cache key that differs between parts of one file."""
    return () if clip.start is None and clip.end is None else (f"{clip.start} to {clip.end} s",)


def _content(clip: Clip) -> bytes:
    try:
        return digest_files(clip.paths)
    except OSError as error:
        raise clip.error(f"cannot read {error.filename} ({error.strerror})") from error


def _quiet(missing: object) -> bool | None:
    """Choose tqdm's `disable`: no bar if nothing is missing, else a bar only on a terminal."""
    return None if missing else True
