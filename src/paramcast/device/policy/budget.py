"""Limits of the cost of requests: bytes per day, and the battery."""

from __future__ import annotations

import time
from collections.abc import Callable

from paramcast.device.errors import DeviceInputError

_DAY_S = 86400.0


class Budget:
    """Limit on bytes and on the battery's charge.

    The limit on bytes is a token bucket: it holds the bytes of one day and refills evenly over a day.
    """

    def __init__(
        self,
        bytes_a_day: float | None = None,
        battery: Callable[[], float | None] | None = None,
        battery_floor: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a full bucket.

        Args:
            bytes_a_day: Bytes per day, sent and received together; None for no limit.
            battery: Function that returns the battery's charge, 0..1, or None where there is no battery or it
                is being charged.
            battery_floor: Charge below which no request is made.
            clock: Function that returns monotonic seconds.

        Raises:
            DeviceInputError: An argument is out of its range.
        """
        if bytes_a_day is not None and bytes_a_day <= 0:
            raise DeviceInputError(f"a day's bytes must be more than 0, not {bytes_a_day}")
        if not 0 <= battery_floor <= 1:
            raise DeviceInputError(f"the battery's floor must be in 0..1, not {battery_floor}")
        self._rate, self._clock = bytes_a_day, clock
        self._battery, self._floor = battery, battery_floor
        self._left, self._at = bytes_a_day or 0.0, clock()

    def refusal(self, size: int) -> str | None:
        """Return why an exchange of `size` bytes may not be made now; None if it may be made."""
        charge = self._battery() if self._battery else None
        if charge is not None and charge < self._floor:
            return f"the battery is at {charge:.0%}, below the floor of {self._floor:.0%}"
        if self._rate is not None and self._available() < min(size, self._rate):
            return f"{self._left:.0f} of the day's {self._rate:.0f} bytes are left, {size} are needed"
        return None

    def spend(self, size: int) -> None:
        """Take `size` bytes from the bucket, whose content may become negative."""
        if self._rate is not None:
            self._left = self._available() - size

    def _available(self) -> float:
        assert self._rate is not None
        now = self._clock()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate / _DAY_S)
        self._at = now
        return self._left
