"""Sequence numbers and the packages that carry them: a few statements for a whole batch of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, case, delete, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from paramcast.cloud.state.schema import devices, feedback, packages

_PRUNED_AT_ONCE = 2000
"""Rows in one transaction of `prune`: it never holds the database for long."""


@dataclass(frozen=True)
class Issued:
    """A package as the state keeps it; the columns of `packages`."""

    device: str
    sequence: int
    model: str
    version: int | None
    form: str
    context: str
    clips: int
    queries: int
    bytes: int
    latency_us: int
    issued_at: int
    expires_at: int


def take_sequences(connection: Connection, asked: Sequence[tuple[str, int]], now_ms: int) -> list[int]:
    """A number for each (device, number that it reports), above all that were given or reported before.

    The caller's transaction keeps them: once it is committed, nobody is given them again.
    """
    counts = Counter(device for device, _ in asked)
    reported: dict[str, int] = {}
    for device, number in asked:
        reported[device] = max(number, reported.get(device, 0))
    last: dict[str, int] = {}
    # In one order everywhere, so that two services cannot wait for each other's rows.
    for count in sorted(set(counts.values())):
        rows = [
            {
                "id": device,
                "sequence": reported[device] + count,
                "first_seen_at": now_ms,
                "last_seen_at": now_ms,
            }
            for device in sorted(counts)
            if counts[device] == count
        ]
        taking = _taking(connection.dialect.name, count)
        last |= {row.id: row.sequence for row in connection.execute(taking, rows)}
    left = dict(counts)
    numbers: list[int] = []
    for device, _ in asked:
        left[device] -= 1
        numbers.append(last[device] - left[device])
    return numbers


@lru_cache(maxsize=64)  # to write a statement takes longer than to run it
def _taking(dialect: str, count: int) -> Any:
    """The statement that raises a device's number by `count`, at least to what is given."""
    statement = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(devices)
    given, raised = statement.excluded.sequence, devices.c.sequence + count
    return statement.on_conflict_do_update(
        index_elements=[devices.c.id],
        set_={
            "sequence": case((raised > given, raised), else_=given),
            "last_seen_at": statement.excluded.last_seen_at,
        },
    ).returning(devices.c.id, devices.c.sequence)


def record(connection: Connection, issued: Iterable[Issued]) -> None:
    """Keep what was issued."""
    rows = [vars(package) for package in issued]
    if rows:
        connection.execute(insert(packages), rows)


def issued_to(connection: Connection, device: str, last: int = 20) -> list[dict[str, Any]]:
    """The newest packages of a device, the newest first."""
    query = select(packages).where(packages.c.device == device).order_by(packages.c.sequence.desc())
    return [dict(row) for row in connection.execute(query.limit(last)).mappings()]


def prune(connection: Connection, before_ms: int) -> int:
    """Remove up to 2,000 packages and reports each that are older; how many. Devices keep their numbers."""
    key = tuple_(packages.c.device, packages.c.sequence)
    old = select(packages.c.device, packages.c.sequence).where(packages.c.issued_at < before_ms)
    gone = connection.execute(delete(packages).where(key.in_(old.limit(_PRUNED_AT_ONCE)))).rowcount
    ids = select(feedback.c.id).where(feedback.c.received_at < before_ms).limit(_PRUNED_AT_ONCE)
    return gone + connection.execute(delete(feedback).where(feedback.c.id.in_(ids))).rowcount
