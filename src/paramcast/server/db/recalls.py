"""Recalls of updates: by withdrawn versions, by issue time, or all of them.

Notices carry recalls to devices. Every change gets a higher number than the change before, independently of
the clock, so that devices know which notice is the newest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from paramcast.protocol.limits import MAX_WITHDRAWN
from paramcast.server.db.errors import StateInputError
from paramcast.server.db.journal import keep_recall, note
from paramcast.server.db.schema import models, recalls


@dataclass(frozen=True)
class Recall:
    """The present recalls of a base model.

    Attributes:
        model: sha256 of the base model.
        number: Grows with every change.
        since: Unix milliseconds; updates that were issued earlier are recalled.
        to_base: Whether devices run their base model and accept no update.
        withdrawn: Versions that are recalled, in rising order.
    """

    model: str
    number: int = 0
    since: int = 0
    to_base: bool = False
    withdrawn: tuple[int, ...] = ()


def recall_of(connection: Connection, model: str) -> Recall:
    """Return the present recalls of a base model; for an unknown base model nothing is recalled."""
    row = connection.execute(select(recalls).where(recalls.c.model == model)).first()
    found = Recall(model) if row is None else Recall(model, row.number, row.since, row.to_base)
    gone = models.c.model == model, models.c.withdrawn_at.is_not(None)
    newest = select(models.c.version, models.c.withdrawn_at).where(*gone).order_by(models.c.version.desc())
    rows = list(connection.execute(newest.limit(MAX_WITHDRAWN + 1)))
    if len(rows) > MAX_WITHDRAWN:  # a notice has no room for older ones: recall them by their time
        found = replace(found, since=max(found.since, rows.pop().withdrawn_at))
    # Versions that were withdrawn before recalls were recorded have no number; use their time.
    number = max([found.number, *(row.withdrawn_at for row in rows)])
    return replace(found, number=number, withdrawn=tuple(sorted(row.version for row in rows)))


def known_models(connection: Connection) -> set[str]:
    """Return the base models of all versions and recalls in the state."""
    found = connection.execute(select(models.c.model).union(select(recalls.c.model)))
    return {row.model for row in found}


def the_model(connection: Connection, begins: str | None) -> str:
    """Return the base model whose sha256 begins with `begins`; without `begins` the only base model.

    Raises:
        StateInputError: If there is not exactly one such base model.
    """
    if begins is not None and len(begins) == 64:
        return begins  # it may be served from a folder that the state does not know
    found = sorted(one for one in known_models(connection) if one.startswith(begins or ""))
    if len(found) != 1:
        told = ", ".join(one[:12] for one in found) or "none"
        raise StateInputError(f"name the base model by its sha256 (found: {told})")
    return found[0]


def call_back(connection: Connection, model: str, now_ms: int) -> Recall:
    """Recall every update that was issued for a base model until now."""
    return _say(connection, replace(recall_of(connection, model), since=now_ms), now_ms)


def send_to_base(connection: Connection, model: str, to_base: bool, now_ms: int) -> Recall:
    """Make all devices of a base model run it without updates, or let them accept updates again."""
    return _say(connection, replace(recall_of(connection, model), to_base=to_base), now_ms)


def say_anew(connection: Connection, model: str, now_ms: int) -> Recall:
    """Give the recalls a new number after a version was withdrawn."""
    return _say(connection, recall_of(connection, model), now_ms)


def put_right(connection: Connection, recall: Recall, now_ms: int) -> Recall:
    """Set the time of a recall to now, because a wrong clock has given a later time."""
    return _say(connection, replace(recall, since=now_ms), now_ms)


def _say(connection: Connection, recall: Recall, now_ms: int) -> Recall:
    said = replace(recall, number=max(recall.number + 1, now_ms))
    row = {"model": said.model, "number": said.number, "since": said.since, "to_base": said.to_base}
    keep_recall(connection, row)
    note(connection, "recalled", at=now_ms, **row)
    return said
