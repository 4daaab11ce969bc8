"""Records of sequence numbers and updates, with a few statements for a whole batch of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    case,
    delete,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from paramcast.protocol.limits import MAX_JUMP
from paramcast.server.db.prepared import prepared
from paramcast.server.db.schema import devices, feedback, packages

_PRUNED_AT_ONCE = 2000
"""Rows in one transaction of `prune`, so that it never blocks the database for long."""


@dataclass(frozen=True)
class Issued:
    """Record of an issued update; the fields are the columns of `packages`."""

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
    request_bytes: int | None = None


@dataclass(frozen=True)
class Place:
    """Position of an update's context on the map of base model `model`; see `paramcast.server.places`."""

    device: str
    sequence: int
    model: str
    x: int
    y: int


def take_sequences(connection: Connection, asked: Sequence[tuple[str, int]], now_ms: int) -> list[int]:
    """Return a new number for each request, above all numbers that were given or reported before.

    A reported number counts only up to `MAX_JUMP` above the number on record. Otherwise one forged request
    could use up all numbers of a device. If a device's number really is higher, it is reached after a few
    requests.

    The caller's transaction records the numbers. After the commit, they are never given again.

    Args:
        connection: A connection in a transaction.
        asked: Device, and the number that it reports, of each request.
        now_ms: Unix milliseconds.
    """
    counts = Counter(device for device, _ in asked)
    reported: dict[str, int] = {}
    for device, number in asked:
        reported[device] = max(number, reported.get(device, 0))
    if far := [device for device, number in reported.items() if number > MAX_JUMP]:
        here = select(devices.c.id, devices.c.sequence).where(devices.c.id.in_(far))
        known: dict[str, int] = {row.id: row.sequence for row in connection.execute(here)}
        for device in far:
            reported[device] = min(reported[device], known.get(device, 0) + MAX_JUMP)
    last: dict[str, int] = {}
    # The same order in all services, so that two of them cannot wait for each other's rows.
    for count in sorted(set(counts.values())):
        names = sorted(device for device in counts if counts[device] == count)
        values: dict[str, Any] = {"now": now_ms}
        for place, device in enumerate(names):
            values[f"id{place}"], values[f"sequence{place}"] = device, reported[device] + count
        taking = prepared(_taking, connection.dialect, count, len(names))
        last.update(taking.run(connection, values))
    left = dict(counts)
    numbers: list[int] = []
    for device, _ in asked:
        left[device] -= 1
        numbers.append(last[device] - left[device])
    return numbers


def _taking(dialect: str, count: int, rows: int) -> Any:
    """Build the statement that raises the numbers of `rows` devices by `count`, at least to given numbers."""
    now = bindparam("now", type_=BigInteger)
    statement = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(devices).values(
        [
            {
                "id": bindparam(f"id{place}"),
                "sequence": bindparam(f"sequence{place}"),
                "first_seen_at": now,
                "last_seen_at": now,
            }
            for place in range(rows)
        ]
    )
    given, raised = statement.excluded.sequence, devices.c.sequence + count
    return statement.on_conflict_do_update(
        index_elements=[devices.c.id],
        set_={
            "sequence": case((raised > given, raised), else_=given),
            "last_seen_at": statement.excluded.last_seen_at,
        },
    ).returning(devices.c.id, devices.c.sequence)


def record(connection: Connection, issued: Iterable[Issued]) -> None:
    """Record issued updates."""
    rows = [vars(package) for package in issued]
    if rows:
        prepared(_recording, connection.dialect).run_for_each(connection, rows)


def _recording(_: str) -> Any:
    return insert(packages).values({field.name: bindparam(field.name) for field in fields(Issued)})


def keep_places(connection: Connection, places: Sequence[Place]) -> None:
    """Record the places of updates, and for each device the place of its newest update.

    Args:
        connection: A connection in a transaction.
        places: Places in the order in which the updates were issued.
    """
    rows = [
        {"of": one.device, "number": one.sequence, "on": one.model, "at_x": one.x, "at_y": one.y}
        for one in places
    ]
    newest = {str(row["of"]): row for row in rows}
    if rows:
        prepared(_placing_packages, connection.dialect).run_for_each(connection, rows)
        # The same order in all services, so that two of them cannot wait for each other's rows.
        mine = [newest[device] for device in sorted(newest)]
        prepared(_placing_devices, connection.dialect).run_for_each(connection, mine)


def _placing_packages(_: str) -> Any:
    one = (packages.c.device == bindparam("of")) & (packages.c.sequence == bindparam("number"))
    return update(packages).where(one).values(x=bindparam("at_x"), y=bindparam("at_y"))


def _placing_devices(_: str) -> Any:
    # Not if another service has issued a newer update meanwhile, because that service records the newer
    # place.
    mine = (devices.c.id == bindparam("of")) & (devices.c.sequence <= bindparam("number"))
    at: dict[str, Any] = {"model": bindparam("on"), "x": bindparam("at_x"), "y": bindparam("at_y")}
    return update(devices).where(mine).values(**at)


def issued_to(connection: Connection, device: str, last: int = 20) -> list[dict[str, Any]]:
    """List the newest updates of a device, the newest first."""
    query = select(packages).where(packages.c.device == device).order_by(packages.c.sequence.desc())
    return [dict(row) for row in connection.execute(query.limit(last)).mappings()]


def prune(connection: Connection, before_ms: int) -> int:
    """Remove up to 2,000 older updates and 2,000 older reports. Devices keep their numbers.

    Returns the number of removed rows.
    """
    key = tuple_(packages.c.device, packages.c.sequence)
    old = select(packages.c.device, packages.c.sequence).where(packages.c.issued_at < before_ms)
    gone = connection.execute(delete(packages).where(key.in_(old.limit(_PRUNED_AT_ONCE)))).rowcount
    ids = select(feedback.c.id).where(feedback.c.received_at < before_ms).limit(_PRUNED_AT_ONCE)
    return gone + connection.execute(delete(feedback).where(feedback.c.id.in_(ids))).rowcount
