"""Overview of the fleet: counts of devices, issued updates over time, and reports of devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Connection, case, func, select

from paramcast.server.db.gains import Gain, gain_of_fleet
from paramcast.server.db.schema import devices, feedback, packages

_EDGES_US = [round(100 * 1.4**step) for step in range(36)]
"""Edges of the latency histogram in microseconds: 0.1 ms to 13 s; every edge is 1.4 times the one before."""

_REASONS = 8


@dataclass(frozen=True)
class Count:
    """Numbers of devices.

    Attributes:
        known: Devices in the registry.
        active: Devices that got an update or enrolled for the first time within the time.
        adapted: Devices that ever got an update.
        applied: Devices that reported an applied update within the time.
        refused: Devices that reported within the time that they did not apply an update.
    """

    known: int
    active: int
    adapted: int
    applied: int
    refused: int


@dataclass(frozen=True)
class Bucket:
    """Issued updates in a part of the time.

    Attributes:
        begins_at: Unix milliseconds.
        packages: Number of issued updates.
        bytes_up: Bytes of the requests; a request without a recorded size counts as 0.
        bytes_down: Bytes of the updates.
        latency_p50_ms: Median time from the request's last byte to the signed update; None without updates.
        latency_p95_ms: 95th percentile of this time. Both come from a histogram with edges a factor of 1.4
            apart.
    """

    begins_at: int
    packages: int
    bytes_up: int
    bytes_down: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True)
class Reason:
    """A reason why updates were not applied, as devices reported it, and the number of these devices."""

    reason: str
    devices: int


@dataclass(frozen=True)
class Overview:
    """The whole overview, from `since` to `until` (unix milliseconds)."""

    since: int
    until: int
    devices: Count
    timeline: list[Bucket]
    total: Bucket
    gain: Gain | None
    reasons: list[Reason]


def overview(connection: Connection, until_ms: int, bucket_ms: int, buckets: int) -> Overview:
    """Make the overview of the last `buckets` parts of `bucket_ms` milliseconds; the last part still runs."""
    end = (until_ms // bucket_ms + 1) * bucket_ms
    since = end - buckets * bucket_ms
    timeline, total = _timeline(connection, since, bucket_ms, buckets)
    return Overview(
        since,
        until_ms,
        _count(connection, since),
        timeline,
        total,
        gain_of_fleet(connection, since),
        _reasons(connection, since),
    )


def _count(connection: Connection, since: int) -> Count:
    query = select(
        func.count(),
        func.coalesce(func.sum(case((devices.c.last_seen_at >= since, 1), else_=0)), 0),
        func.coalesce(func.sum(case((devices.c.sequence > 0, 1), else_=0)), 0),
    ).select_from(devices)
    known, active, adapted = connection.execute(query).one()
    reporting = (
        select(feedback.c.applied, func.count(feedback.c.device.distinct()))
        .where(feedback.c.received_at >= since)
        .group_by(feedback.c.applied)
    )
    reported = {bool(applied): count for applied, count in connection.execute(reporting)}
    return Count(known, active, adapted, reported.get(True, 0), reported.get(False, 0))


def _timeline(
    connection: Connection, since: int, bucket_ms: int, buckets: int
) -> tuple[list[Bucket], Bucket]:
    place = (packages.c.issued_at - since) // bucket_ms
    step = case(
        *[(packages.c.latency_us < edge, number) for number, edge in enumerate(_EDGES_US)],
        else_=len(_EDGES_US),
    )
    query = (
        select(
            place.label("place"),
            step.label("step"),
            func.count(),
            func.coalesce(func.sum(packages.c.request_bytes), 0),
            func.sum(packages.c.bytes),
        )
        .where(packages.c.issued_at >= since, packages.c.issued_at < since + buckets * bucket_ms)
        .group_by("place", "step")
    )
    parts: list[_Part] = [_Part() for _ in range(buckets)]
    whole = _Part()
    for number, latency, count, up, down in connection.execute(query):
        for part in (parts[number], whole):
            part.add(latency, count, int(up), int(down))
    found = [part.bucket(since + number * bucket_ms) for number, part in enumerate(parts)]
    return found, whole.bucket(since)


class _Part:
    def __init__(self) -> None:
        self.steps: Counter[int] = Counter()
        self.up = self.down = 0

    def add(self, step: int, count: int, up: int, down: int) -> None:
        self.steps[step] += count
        self.up += up
        self.down += down

    def bucket(self, begins_at: int) -> Bucket:
        counts = [self.steps[step] for step in range(len(_EDGES_US) + 1)]
        return Bucket(
            begins_at, sum(counts), self.up, self.down, _quantile_ms(counts, 0.5), _quantile_ms(counts, 0.95)
        )


def _quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """Compute a quantile of the histogram, with linear interpolation between the edges."""
    wanted, before = share * sum(counts), 0
    edges = pairwise([0, *_EDGES_US, 2 * _EDGES_US[-1]])
    for count, (low, high) in zip(counts, edges, strict=True):
        if count and before + count >= wanted:
            return (low + (high - low) * (wanted - before) / count) / 1000
        before += count
    return None


def _reasons(connection: Connection, since: int) -> list[Reason]:
    told = func.coalesce(feedback.c.reason, "")
    number = func.count(feedback.c.device.distinct())
    query = (
        select(told, number)
        .where(feedback.c.received_at >= since, feedback.c.applied.is_(False))
        .group_by(told)
        .order_by(number.desc(), told)
        .limit(_REASONS)
    )
    return [Reason(reason, count) for reason, count in connection.execute(query)]
