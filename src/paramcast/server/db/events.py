"""Log of acts on the state. Events are only added, and erased together with the device that they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select

from paramcast.server.db.schema import events

_WHO = "paramcast who"
_LEFT_OUT = {"at", "device", "token", "digest", "signature"}
_LONGEST = 1000
_OWN_ACTS = {"key changed"}
"""Routine acts of devices, which are in the journal but not among the events."""


@dataclass(frozen=True)
class Event:
    """An act on the state.

    Attributes:
        id: Grows with every act.
        at: Unix milliseconds.
        who: Name of an operator, of a device, or of the user who ran a command.
        what: The journal's name of the act.
        device: The device that the act concerns; None if it concerns no device.
        about: Further values of the act, as in the journal, without hashes of tokens.
    """

    id: int
    at: int
    who: str
    what: str
    device: str | None
    about: dict[str, Any]


def act_as(connection: Connection, who: str) -> None:
    """Set the actor of the transaction that begins."""
    connection.info[_WHO] = who


def keep(connection: Connection, what: str, at: int, about: Mapping[str, Any]) -> None:
    """Record an act of the transaction."""
    if what in _OWN_ACTS:
        return
    rest = json.dumps({name: value for name, value in about.items() if name not in _LEFT_OUT})
    device = None if what == "device forgotten" else about.get("device")
    row = {"at": at, "who": connection.info.get(_WHO, ""), "what": what, "device": device}
    connection.execute(insert(events).values(**row, about=rest if len(rest) <= _LONGEST else "{}"))


def erase(connection: Connection, device: str) -> int:
    """Erase the acts that name a device or one of its users, and return their number."""
    named = [
        or_(column == device, column.startswith(f"{device}:", autoescape=True))
        for column in (events.c.device, events.c.who)
    ]
    return connection.execute(delete(events).where(or_(*named))).rowcount


def newest(connection: Connection, last: int, before: int | None = None) -> list[Event]:
    """List the newest acts, the newest first; only acts before the act with the id `before`, if given."""
    query = select(events).order_by(events.c.id.desc()).limit(last)
    if before is not None:
        query = query.where(events.c.id < before)
    return [Event(**{**row._mapping, "about": json.loads(row.about)}) for row in connection.execute(query)]
