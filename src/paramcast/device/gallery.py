"""The clips that a device can find again by text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from paramcast.wire.quantise import Float32

Embed = Callable[[Sequence[Float32]], list[Float32]]


class Gallery:
    """Trunk features by clip, and their embeddings under the parameters that were used last."""

    def __init__(self) -> None:
        self._features: dict[str, Float32] = {}
        self._embeddings: dict[str, Float32] = {}
        self._owner: object = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._features)

    def add(self, clip_id: str, features: Float32) -> None:
        """Keep a clip's trunk features (T, D); a clip of the same id is replaced."""
        with self._lock:
            self._features[clip_id] = features
            self._embeddings.pop(clip_id, None)

    def embeddings(self, owner: object, embed: Embed) -> tuple[list[str], Float32]:
        """The clips' ids and embeddings (N, E) under the parameters of `owner`.

        Only clips that were not embedded for `owner` yet are run through `embed`: all of them after a swap.
        """
        with self._lock:
            if owner is not self._owner:
                self._owner, self._embeddings = owner, {}
            missing = [clip_id for clip_id in self._features if clip_id not in self._embeddings]
            if missing:
                rows = embed([self._features[clip_id] for clip_id in missing])
                self._embeddings.update(zip(missing, rows, strict=True))
            ids = list(self._features)
            return ids, np.stack([self._embeddings[clip_id] for clip_id in ids])
