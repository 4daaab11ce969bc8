"""Gains that devices report for their updates, with intervals: of a device, a version, or the fleet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, select

from paramcast.server.db.schema import feedback, packages

# Student's t for 95 %, two-sided, by degrees of freedom from 1; for more degrees the normal distribution.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL95 = 1.960


@dataclass(frozen=True)
class Gain:
    """A mean of reported gains in percentage points.

    Attributes:
        mean: Mean of the values.
        low: Lower end of the 95 % interval (Student's t); None if there is only one value.
        high: Upper end of the interval; None if there is only one value.
        count: Number of values. A value is a report of one device, or the mean of a device's reports.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @classmethod
    def of_sums(cls, count: int, total: float | None, squares: float | None) -> Gain | None:
        """Compute the gain from the number of values, their sum and sum of squares; None without values."""
        if not count or total is None or squares is None:
            return None
        mean = total / count
        if count == 1:
            return cls(mean, None, None, 1)
        variance = max(0.0, squares - count * mean * mean) / (count - 1)
        half = _t95(count - 1) * math.sqrt(variance / count)
        return cls(mean, mean - half, mean + half, count)

    def minus(self, other: Gain) -> Gain | None:
        """Compute the difference with Welch's interval and the smaller `count`; None without intervals."""
        if self.low is None or other.low is None:
            return None
        errors = [(one.mean - one.low) / _t95(one.count - 1) for one in (self, other) if one.low is not None]
        squares = [error * error for error in errors]
        total = sum(squares)
        parts = sum(part * part / (one.count - 1) for part, one in zip(squares, (self, other), strict=True))
        half = _t95(int(total * total / parts)) * math.sqrt(total) if parts else 0.0
        mean = self.mean - other.mean
        return Gain(mean, mean - half, mean + half, min(self.count, other.count))


def _t95(freedom: int) -> float:
    return _T95[max(1, freedom) - 1] if freedom <= len(_T95) else _NORMAL95


def gain_of_device(connection: Connection, device: str) -> Gain | None:
    """Compute the gain over all recorded reports of a device."""
    reported = select(feedback.c.gain).where(
        feedback.c.device == device, feedback.c.applied, feedback.c.gain.is_not(None)
    )
    return _gain(connection, reported.subquery())


def gain_of_fleet(connection: Connection, since_ms: int) -> Gain | None:
    """Compute the gain over the devices that have reported gains since `since_ms` (unix milliseconds)."""
    means = (
        select(func.avg(feedback.c.gain).label("gain"))
        .where(feedback.c.received_at >= since_ms, feedback.c.applied, feedback.c.gain.is_not(None))
        .group_by(feedback.c.device)
    )
    return _gain(connection, means.subquery())


def _gain(connection: Connection, values: Any) -> Gain | None:
    gain = values.c.gain
    row = connection.execute(select(func.count(), func.sum(gain), func.sum(gain * gain)).select_from(values))
    return Gain.of_sums(*row.one())


def reports_by_version(connection: Connection) -> dict[tuple[str, int | None], tuple[Gain | None, int, int]]:
    """Return by (base model, version): gain over its devices, devices that applied and refused updates.

    A device that reported both counts in both numbers.
    """
    rows = connection.execute(_reports_by_version())
    return {
        (row.model, row.version): (Gain.of_sums(row.gains, row.total, row.squares), row.applied, row.refused)
        for row in rows
    }


def _reports_by_version() -> Select[Any]:
    one = and_(packages.c.device == feedback.c.device, packages.c.sequence == feedback.c.sequence)
    devices = (
        select(
            packages.c.model,
            packages.c.version,
            func.avg(case((feedback.c.applied, feedback.c.gain))).label("gain"),
            func.max(case((feedback.c.applied, 1), else_=0)).label("applied"),
            func.max(case((feedback.c.applied, 0), else_=1)).label("refused"),
        )
        .join_from(feedback, packages, one)
        .group_by(packages.c.model, packages.c.version, packages.c.device)
        .subquery()
    )
    return select(
        devices.c.model,
        devices.c.version,
        func.count(devices.c.gain).label("gains"),
        func.sum(devices.c.gain).label("total"),
        func.sum(devices.c.gain * devices.c.gain).label("squares"),
        func.sum(devices.c.applied).label("applied"),
        func.sum(devices.c.refused).label("refused"),
    ).group_by(devices.c.model, devices.c.version)
