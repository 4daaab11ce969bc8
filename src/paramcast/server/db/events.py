"""Who did what to the state, and when: rows that are only added, and erased with the device they name."""

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
"""What devices do by themselves, day by day: it stays in the journal alone."""


@dataclass(frozen=True)
class Event:
    """An act.

    Attributes:
        id: Grows with every act.
        at: Unix milliseconds.
        who: An operator's name, a device's, or who ran a command.
        what: As the journal calls it.
        device: The device that the act was about; None: it was about something else.
        about: The rest, as the journal has it, without hashes of tokens.
    """

    id: int
    at: int
    who: str
    what: str
    device: str | None
    about: dict[str, Any]


def act_as(connection: Connection, who: str) -> None:
    """Say who acts in the transaction that begins."""
    connection.info[_WHO] = who


def keep(connection: Connection, what: str, at: int, about: Mapping[str, Any]) -> None:
    """Keep an act of the transaction."""
    if what in _OWN_ACTS:
        return
    rest = json.dumps({name: value for name, value in about.items() if name not in _LEFT_OUT})
    device = None if what == "device forgotten" else about.get("device")
    row = {"at": at, "who": connection.info.get(_WHO, ""), "what": what, "device": device}
    connection.execute(insert(events).values(**row, about=rest if len(rest) <= _LONGEST else "{}"))


def erase(connection: Connection, device: str) -> int:
    """Erase the acts that name a device or one of its users; how many."""
    named = [
        or_(column == device, column.startswith(f"{device}:", autoescape=True))
        for column in (events.c.device, events.c.who)
    ]
    return connection.execute(delete(events).where(or_(*named))).rowcount


def newest(connection: Connection, last: int, before: int | None = None) -> list[Event]:
    """The newest acts, the newest first; of those before the act with the id `before`, if it is given."""
    query = select(events).order_by(events.c.id.desc()).limit(last)
    if before is not None:
        query = query.where(events.c.id < before)
    return [Event(**{**row._mapping, "about": json.loads(row.about)}) for row in connection.execute(query)]
