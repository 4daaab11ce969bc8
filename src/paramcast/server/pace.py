"""Retry times for refused requests: each gets a different time, spread at the service's throughput."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

LONGEST_S = 60
"""Longest retry time in seconds; `CloudClient` does not wait longer."""

_KEPT = 0.9
"""Share of the earlier measurements that is kept with every batch."""


class Pace:
    """Measures the throughput, and gives out retry times at that rate.

    If a fleet wakes at once and all devices get the same `Retry-After`, they return at once. Refusing them
    again and again takes the time in which they could be served.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without measurements; `clock` returns seconds."""
        self._clock = clock
        self._done = self._seconds = 0.0
        self._promised = 0.0

    def worked(self, requests: int, seconds: float) -> None:
        """Record that `requests` requests took `seconds`."""
        self._done = _KEPT * self._done + requests
        self._seconds = _KEPT * self._seconds + seconds

    def come_back_s(self) -> int:
        """Return the retry time of the next refused request in whole seconds, 1..60."""
        if not self._done:
            return 1
        now = self._clock()
        self._promised = max(self._promised, now) + self._seconds / self._done
        wait_s = self._promised - now
        if wait_s > LONGEST_S:  # all times are taken: spread these requests over the last half
            self._promised = now + LONGEST_S
            wait_s = random.uniform(LONGEST_S / 2, LONGEST_S)
        return max(1, math.ceil(wait_s))
