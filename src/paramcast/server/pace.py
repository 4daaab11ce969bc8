"""When those for whom there is no room should come back: each at a time of its own, at the work's pace."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

LONGEST_S = 60
"""Nobody is sent away for longer: that is what `CloudClient` waits at most."""

_KEPT = 0.9
"""Of what was measured before, with every batch."""


class Pace:
    """Measures how fast work is done, and hands out times to come back at that pace.

    With one and the same `Retry-After` for all, a fleet that wakes at once comes back at once, and turning it
    away again and again takes the time in which it could be served.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been measured yet; `clock` in seconds."""
        self._clock = clock
        self._done = self._seconds = 0.0
        self._promised = 0.0

    def worked(self, requests: int, seconds: float) -> None:
        """Note that so many requests took so long."""
        self._done = _KEPT * self._done + requests
        self._seconds = _KEPT * self._seconds + seconds

    def come_back_s(self) -> int:
        """Whole seconds for one more that is turned away, 1..60."""
        if not self._done:
            return 1
        now = self._clock()
        self._promised = max(self._promised, now) + self._seconds / self._done
        wait_s = self._promised - now
        if wait_s > LONGEST_S:  # no times are left; they come back spread over those that are promised last
            self._promised = now + LONGEST_S
            wait_s = random.uniform(LONGEST_S / 2, LONGEST_S)
        return max(1, math.ceil(wait_s))
