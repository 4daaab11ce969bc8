"""Cache of features of the last encoded frames and texts, so that a device does not encode them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from paramcast.protocol.quantize import Float32


class RecentFeatures:
    """Cache of rows of features by the digests of their sources, least recently used first. Thread-safe.

    Args:
        size: Largest number of rows; beyond it, the least recently used row is dropped.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[bytes, Float32] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys: Sequence[bytes], encode: Callable[[list[int]], Float32]) -> Float32:
        """Return the rows of the keys; missing rows are encoded first.

        Args:
            keys: N keys of the same kind (digests of frames, or texts).
            encode: Function of the n positions in `keys` of the missing rows, which returns (n, D) float32.
                It is called at most once, with no lock held.

        Returns:
            (N, D) float32, a copy.
        """
        with self._lock:
            known = {key: self._rows[key] for key in keys if key in self._rows}
        places = {key: place for place, key in enumerate(keys) if key not in known}
        if places:
            known |= dict(zip(places, encode(list(places.values())), strict=True))
        with self._lock:
            for key in keys:
                self._rows[key] = known[key]
                self._rows.move_to_end(key)
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)
        return np.stack([known[key] for key in keys])

    def clear(self) -> None:
        """Drop every row."""
        with self._lock:
            self._rows.clear()
