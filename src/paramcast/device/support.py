"""Support set: the examples that a device remembers, in the form that is sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.protocol import AdaptRequest
from paramcast.protocol.quantize import Float32

MAX_CLIPS = 64
"""Largest number of examples in the support set."""


def _no_queries() -> Float32:
    return np.empty((0, 1), np.float32)


@dataclass(frozen=True, eq=False)
class Seen:
    """One observed example.

    Attributes:
        anchor: (Ui,) float32, the uplink of the example's features, as it is sent; for a clip, the uplink of
            the anchor frame's features.
        queries: (0, 1) float32. For a clip: (1, Ut), the uplink of the mean of the queries' features, or
            (0, Ut) without queries.
    """

    anchor: Float32
    queries: Float32 = field(default_factory=_no_queries)


@dataclass(frozen=True, eq=False)
class SeenClip(Seen):
    """One observed clip.

    Attributes:
        features: (1, D) float32, the anchor frame's trunk features; they stay on the device.
        query_features: (n, Dt) float32, the queries' trunk features; they stay on the device.
    """

    features: Float32 = field(default_factory=_no_queries)
    query_features: Float32 = field(default_factory=_no_queries)


class SupportMemory:
    """Memory of the last 64 examples. Thread-safe."""

    def __init__(self) -> None:
        self.observed = 0  # number of all examples added
        self._seen: deque[Seen] = deque(maxlen=MAX_CLIPS)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, example: Seen) -> None:
        """Add an example; where there are 64, the oldest one is dropped."""
        with self._lock:
            self._seen.append(example)
            self.observed += 1

    def last(self) -> Seen | None:
        """Return the example that was added last; None if there is none."""
        with self._lock:
            return self._seen[-1] if self._seen else None

    def all(self) -> tuple[Seen, ...]:
        """Return all remembered examples, oldest first."""
        with self._lock:
            return tuple(self._seen)


def request_of(seen: Sequence[Seen], device: str, model: str, sequence: int) -> AdaptRequest:
    """Build the request to the cloud for the examples `seen`.

    Raises:
        DeviceInputError: There are no examples.
    """
    if not seen:
        raise DeviceInputError("the support set is empty: observe at least one example before adapting")
    return AdaptRequest(
        device=device,
        model=model,
        sequence=sequence,
        anchors=np.stack([each.anchor for each in seen]),
        queries=np.concatenate([each.queries for each in seen]),
        clip_of_query=np.repeat(np.arange(len(seen)), [len(each.queries) for each in seen]),
    )
