"""Gallery of the clips that a device can find by text.

A search needs no lock: readers take one reference to the clips and one to the embeddings, and both are
immutable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paramcast.protocol.quantize import Float32

Embed = Callable[[Sequence[Float32]], list[Float32]]


@dataclass(frozen=True, eq=False)
class _Embedded:
    """Embeddings (N, E) of a state of the gallery under the parameters of one owner."""

    clips: Mapping[str, Float32] = field(default_factory=dict)
    owner: object = None
    ids: tuple[str, ...] = ()
    rows: Float32 = field(default_factory=lambda: np.empty((0, 0), np.float32))


class Gallery:
    """Trunk features of clips, and their embeddings under the parameters that were used last."""

    def __init__(self) -> None:
        self._clips: Mapping[str, Float32] = {}
        self._embedded = _Embedded()
        self._adding = threading.Lock()

    def __len__(self) -> int:
        return len(self._clips)

    def add(self, clip_id: str, features: Float32) -> None:
        """Keep a clip's trunk features (T, D); a clip with the same id is replaced."""
        with self._adding:
            self._clips = {**self._clips, clip_id: features}

    def embeddings(self, owner: object, embed: Embed) -> tuple[Sequence[str], Float32]:
        """Return the clips' ids and embeddings (N, E) under the parameters of `owner`.

        Only clips that were not embedded for `owner` yet are run through `embed`; after a swap of parameters
        these are all clips. Threads that find the same clips missing at the same time all embed these clips.
        """
        clips, known = self._clips, self._embedded
        if known.owner is owner and known.clips is clips:
            return known.ids, known.rows
        there = dict(zip(known.ids, known.rows, strict=True)) if known.owner is owner else {}
        ready = {clip: row for clip, row in there.items() if clips.get(clip) is known.clips[clip]}
        missing = [clip for clip in clips if clip not in ready]
        ready |= zip(missing, embed([clips[clip] for clip in missing]), strict=True)
        rows = np.stack([ready[clip] for clip in clips])
        self._embedded = made = _Embedded(clips, owner, tuple(clips), rows)
        return made.ids, made.rows
