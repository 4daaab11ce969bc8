"""The support set: what a device remembers of the clips that it has seen, in the form that is sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.protocol import AdaptRequest
from paramcast.protocol.quantize import Float32

MAX_CLIPS = 64


@dataclass(frozen=True, eq=False)
class Seen:
    """One observed clip.

    Attributes:
        anchor: (Ui,) float32, the anchor frame's uplink, as it is sent.
        queries: (1, Ut) float32, the uplink of the queries' mean, as it is sent; (0, Ut) where nothing was
            asked.
        features: (1, D) float32, the anchor frame's trunk features; stay on the device.
        query_features: (n, Dt) float32; stay on the device.
    """

    anchor: Float32
    queries: Float32
    features: Float32
    query_features: Float32


class SupportMemory:
    """The last 64 clips. Safe to use from several threads."""

    def __init__(self) -> None:
        self.observed = 0  # all clips ever added
        self._clips: deque[Seen] = deque(maxlen=MAX_CLIPS)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._clips)

    def add(self, clip: Seen) -> None:
        """Remember `clip`; the oldest of 64 is forgotten."""
        with self._lock:
            self._clips.append(clip)
            self.observed += 1

    def last(self) -> Seen | None:
        """The clip that was added last."""
        with self._lock:
            return self._clips[-1] if self._clips else None

    def clips(self) -> tuple[Seen, ...]:
        """All remembered clips, oldest first."""
        with self._lock:
            return tuple(self._clips)


def request_of(clips: Sequence[Seen], device: str, model: str, sequence: int) -> AdaptRequest:
    """What to ask the cloud about `clips`.

    Raises:
        DeviceInputError: If there are none.
    """
    if not clips:
        raise DeviceInputError("the support set is empty: observe at least one clip before adapting")
    return AdaptRequest(
        device=device,
        model=model,
        sequence=sequence,
        anchors=np.stack([clip.anchor for clip in clips]),
        queries=np.concatenate([clip.queries for clip in clips]),
        clip_of_query=np.repeat(np.arange(len(clips)), [len(clip.queries) for clip in clips]),
    )
