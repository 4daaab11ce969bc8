"""The devices that are known: a page of them at a time, one of them, and where all of them are on the map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, and_, case, exists, func, insert, or_, select

from paramcast.server.db.schema import device_keys, devices, feedback, packages

Kind = Literal["all", "adapted", "waiting", "refused", "revoked"]
"""Of devices: `adapted`, given a package; `waiting`, not given one yet; `refused`, the newest report says
that a package was not taken up; `revoked`, all keys have ended."""

CELLS = 40
"""Cells of the map, to each side."""


@dataclass(frozen=True)
class Device:
    """A row of the registry.

    Attributes:
        id: The device's name.
        first_seen_at: Unix milliseconds.
        last_seen_at: Unix milliseconds.
        sequence: The highest number that it was given or reported; 0: it has no package.
        access: `open`, it never enrolled; `enrolled`; or `revoked`.
        applied: Whether the package was taken up of which it reported last; None: it never reported.
        gain: What it gained by that, in percentage points, if it told.
        reason: Why it was not taken up, if it told.
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
    """A page of the registry: `total` match, the next page comes after the device `next`, if there is one."""

    total: int
    devices: list[Device]
    next: str | None


def list_devices(
    connection: Connection, *, search: str, kind: Kind, after: str | None, limit: int, now_ms: int
) -> Devices:
    """Devices by name.

    Args:
        connection: In one look at the state.
        search: Part of the name, in any case.
        kind: Which of them.
        after: The last device of the page before.
        limit: Devices on a page.
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
    """Keep the first report of a package that is on record; whether it was kept.

    A device cannot move the gains of a fleet by reports of what it was never given, or by many of one.
    """
    device, sequence = row["device"], row["sequence"]
    # Two reports at once wait for each other here; in SQLite they do anyhow.
    connection.execute(select(devices.c.id).where(devices.c.id == device).with_for_update())
    given = select(packages.c.device).where(packages.c.device == device, packages.c.sequence == sequence)
    before = select(feedback.c.id).where(feedback.c.device == device, feedback.c.sequence == sequence)
    if connection.execute(given).first() is None or connection.execute(before.limit(1)).first() is not None:
        return False
    connection.execute(insert(feedback).values(row))
    return True


def reported_by(connection: Connection, device: str, last: int) -> list[dict[str, Any]]:
    """The newest reports of a device, the newest first."""
    query = select(feedback).where(feedback.c.device == device).order_by(feedback.c.id.desc()).limit(last)
    return [dict(row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True)
class Cell:
    """Devices in a square of the map: `column` and `row` from 0, from the left and from the bottom."""

    column: int
    row: int
    devices: int


@dataclass(frozen=True)
class Mapped:
    """A base model and how many devices run it that have a place."""

    model: str
    devices: int


@dataclass(frozen=True)
class FleetMap:
    """Where the newest contexts of the devices of one base model lie.

    Attributes:
        models: Those that have a map, the one with the most devices first.
        model: The one whose map this is; None where there is none.
        left: x of the left edge, in hundredths of a standard deviation of the training clips.
        bottom: y of the lower edge.
        size: Of a cell, to each side.
        cells: Cells to each side.
        occupied: Those that hold devices.
        outside: Devices that lie beyond the edges.
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
    """The map of `model`, or of the base model that most devices run: 2.5 deviations around the mean."""
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
