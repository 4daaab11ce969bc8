"""Registry of the known devices: pages of devices, their reports, and the fleet's map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, and_, case, exists, func, insert, or_, select

from paramcast.server.db.schema import device_keys, devices, feedback, packages

Kind = Literal["all", "adapted", "waiting", "refused", "revoked"]
"""Kinds of devices: `adapted`, with an update; `waiting`, without one; `refused`, the newest report says that
an update was not applied; `revoked`, all keys have ended."""

CELLS = 40
"""Number of cells of the map in each direction."""


@dataclass(frozen=True)
class Device:
    """A row of the registry.

    Attributes:
        id: The device's name.
        first_seen_at: Unix milliseconds.
        last_seen_at: Unix milliseconds.
        sequence: The highest number that was given to or reported by the device; 0: it has no update.
        access: `open`, it was never enrolled; `enrolled`; or `revoked`.
        applied: Whether the last reported update was applied; None: no reports.
        gain: Gain of this update in percentage points, if reported.
        reason: Why the update was not applied, if reported.
    """

    id: str
    first_seen_at: int
    last_seen_at: int
    sequence: int
    access: Literal["open", "enrolled", "revoked"]
    applied: bool | None
    gain: float | None
    reason: str | None


@dataclass(frozen=True)
class Devices:
    """A page of the registry.

    Attributes:
        total: Number of matching devices on all pages.
        devices: Devices of this page.
        next: The last device of this page, to ask for the next page; None on the last page.
    """

    total: int
    devices: list[Device]
    next: str | None


def list_devices(
    connection: Connection, *, search: str, kind: Kind, after: str | None, limit: int, now_ms: int
) -> Devices:
    """List a page of devices, ordered by name.

    Args:
        connection: A connection of `Database.reading`.
        search: Part of the name, case-insensitive.
        kind: Kind of the devices.
        after: The last device of the previous page; None for the first page.
        limit: Largest number of devices on a page.
        now_ms: Unix milliseconds.
    """
    matching = _matching(search, kind, now_ms)
    total = connection.execute(select(func.count()).select_from(matching.subquery())).scalar_one()
    page = matching if after is None else matching.where(devices.c.id > after)
    rows = connection.execute(page.order_by(devices.c.id).limit(limit + 1)).mappings().all()
    found = [dict(row) for row in rows[:limit]]
    names = [row["id"] for row in found]
    access, reports = _access(connection, names, now_ms), _reports(connection, names)
    shown = ("id", "first_seen_at", "last_seen_at", "sequence")
    listed = [
        Device(
            **{name: row[name] for name in shown},
            access=access.get(row["id"], "open"),
            **reports.get(row["id"], {"applied": None, "gain": None, "reason": None}),
        )
        for row in found
    ]
    return Devices(total, listed, names[-1] if len(rows) > limit else None)


def _matching(search: str, kind: Kind, now_ms: int) -> Select[Any]:
    query = select(devices)
    if search:
        query = query.where(devices.c.id.icontains(search, autoescape=True))
    if kind == "adapted":
        query = query.where(devices.c.sequence > 0)
    if kind == "waiting":
        query = query.where(devices.c.sequence == 0)
    if kind == "refused":
        newest = select(func.max(feedback.c.id)).group_by(feedback.c.device)
        refused = select(feedback.c.device).where(feedback.c.id.in_(newest), feedback.c.applied.is_(False))
        query = query.where(devices.c.id.in_(refused))
    if kind == "revoked":
        mine = device_keys.c.device == devices.c.id
        holds = or_(device_keys.c.ends_at.is_(None), device_keys.c.ends_at > now_ms)
        query = query.where(exists().where(mine), ~exists().where(mine, holds))
    return query


def _access(
    connection: Connection, names: Sequence[str], now_ms: int
) -> dict[str, Literal["enrolled", "revoked"]]:
    holds = or_(device_keys.c.ends_at.is_(None), device_keys.c.ends_at > now_ms)
    query = (
        select(device_keys.c.device, func.max(case((holds, 1), else_=0)))
        .where(device_keys.c.device.in_(names))
        .group_by(device_keys.c.device)
    )
    return {name: "enrolled" if held else "revoked" for name, held in connection.execute(query)}


def _reports(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    newest = select(func.max(feedback.c.id)).where(feedback.c.device.in_(names)).group_by(feedback.c.device)
    query = select(feedback.c.device, feedback.c.applied, feedback.c.gain, feedback.c.reason)
    rows = connection.execute(query.where(feedback.c.id.in_(newest))).mappings()
    return {row["device"]: {name: row[name] for name in ("applied", "gain", "reason")} for row in rows}


def keep_report(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Keep the first report of an update that is on record; returns whether the report was kept.

    So a device cannot distort the gains of a fleet by reports of updates that it never got, or by many
    reports of one update.
    """
    device, sequence = row["device"], row["sequence"]
    # Two simultaneous reports wait for each other here; in SQLite they always do.
    connection.execute(select(devices.c.id).where(devices.c.id == device).with_for_update())
    given = select(packages.c.device).where(packages.c.device == device, packages.c.sequence == sequence)
    before = select(feedback.c.id).where(feedback.c.device == device, feedback.c.sequence == sequence)
    if connection.execute(given).first() is None or connection.execute(before.limit(1)).first() is not None:
        return False
    connection.execute(insert(feedback).values(row))
    return True


def reported_by(connection: Connection, device: str, last: int) -> list[dict[str, Any]]:
    """List the newest reports of a device, the newest first."""
    query = select(feedback).where(feedback.c.device == device).order_by(feedback.c.id.desc()).limit(last)
    return [dict(row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True)
class Cell:
    """Number of devices in a cell of the map; `column` and `row` count from 0 at the left and the bottom."""

    column: int
    row: int
    devices: int


@dataclass(frozen=True)
class Mapped:
    """A base model and the number of its devices that have a place on the map."""

    model: str
    devices: int


@dataclass(frozen=True)
class FleetMap:
    """Map of the newest contexts of a base model's devices.

    Attributes:
        models: The base models that have a map, in falling order of their numbers of devices.
        model: The base model of this map; None if there is no map.
        left: x of the left edge, in hundredths of a standard deviation of the training clips.
        bottom: y of the lower edge, in the same unit.
        size: Width and height of a cell, in the same unit.
        cells: Number of cells in each direction.
        occupied: Cells that contain devices.
        outside: Number of devices beyond the edges.
    """

    models: list[Mapped]
    model: str | None
    left: int
    bottom: int
    size: int
    cells: int
    occupied: list[Cell]
    outside: int


def fleet_map(connection: Connection, model: str | None) -> FleetMap:
    """Make the map of `model`, or of the base model with the most devices: 2.5 deviations around the mean."""
    placed = and_(devices.c.model.is_not(None), devices.c.x.is_not(None))
    x, y = devices.c.x, devices.c.y
    number = func.count()
    moments = select(
        devices.c.model, number, func.avg(x), func.avg(y), func.avg(1.0 * x * x), func.avg(1.0 * y * y)
    )
    rows = connection.execute(
        moments.where(placed).group_by(devices.c.model).order_by(number.desc(), devices.c.model)
    ).all()
    models = [Mapped(row[0], row[1]) for row in rows]
    chosen = next((row for row in rows if model in (None, row[0])), None)
    if chosen is None:
        return FleetMap(models, None, 0, 0, 1, CELLS, [], 0)
    name, placed_devices, *rest = chosen
    mean_x, mean_y, square_x, square_y = map(float, rest)
    spread = math.sqrt(max(1.0, square_x - mean_x**2, square_y - mean_y**2))
    size = max(1, math.ceil(5 * spread / CELLS))
    left, bottom = (round(middle) - size * CELLS // 2 for middle in (mean_x, mean_y))
    inside = and_(x >= left, x < left + size * CELLS, y >= bottom, y < bottom + size * CELLS)
    column, row = (x - left) // size, (y - bottom) // size
    query = (
        select(column.label("column"), row.label("row"), func.count())
        .where(devices.c.model == name, inside)
        .group_by("column", "row")
        .order_by("column", "row")
    )
    occupied = [Cell(*found) for found in connection.execute(query)]
    outside = placed_devices - sum(cell.devices for cell in occupied)
    return FleetMap(models, name, left, bottom, size, CELLS, occupied, outside)
