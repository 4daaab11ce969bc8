"""Journal of acts that a restored backup must not undo: an append-only file beside the state.

A backup of yesterday holds keys that were revoked today, tokens that were used, operators whose token ended,
and versions that were rolled back. It lacks later publications and recalls, and the endorsement of a new
signing key. Every such act is a line of JSON in the journal, which is on the disk before the act is
committed. A restore replays all lines in order, on a backup of any time, which gives the present state.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from paramcast.files import own_as
from paramcast.server.db import events
from paramcast.server.db.errors import StateError, StateInputError
from paramcast.server.db.schema import (
    device_keys,
    devices,
    endorsements,
    enrolments,
    feedback,
    models,
    operators,
    packages,
    recalls,
)

_NOTES = "paramcast notes"


class Journal:
    """The file of the journal. Several processes may add to it."""

    def __init__(self, path: Path) -> None:
        """Use `path`, which is made when the first line is added."""
        self.path = path

    def add(self, notes: Sequence[Mapping[str, Any]]) -> None:
        """Add lines and sync them to the disk. Raises StateError if that fails."""
        data = "".join(json.dumps({"at": int(1000 * time.time()), **note}) + "\n" for note in notes).encode()
        try:
            new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _lock(handle)
                end = self._mended(handle)
                if os.write(handle, data) < len(data):  # a full disk may take only a part
                    os.ftruncate(handle, end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            finally:
                os.close(handle)
            if new:
                own_as(self.path, self.path.parent)
        except OSError as error:
            raise StateError(f"cannot write the journal {self.path}: {error.strerror}") from error

    def _mended(self, handle: int) -> int:
        """Remove an incomplete last line, so that the next line is complete; returns the new end of the file.

        The act of such a line was not committed, because acts are committed after their line is on the disk.
        """
        end = os.fstat(handle).st_size
        if end:
            os.lseek(handle, end - 1, os.SEEK_SET)
            if os.read(handle, 1) != b"\n":
                end = self.path.read_bytes().rfind(b"\n") + 1
                os.ftruncate(handle, end)
        return end

    def begin(self) -> None:
        """Make the file, so that a missing file later means that it is lost. Raises StateError."""
        self.add([])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the acts, the oldest first; an incomplete last line, which a power cut may leave, is ignored.

        Raises:
            StateInputError: If another line is no line of a journal, or the file cannot be read.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise StateInputError(f"cannot read the journal {self.path}: {error.strerror}") from error
        for number, line in enumerate(lines[:-1], 1):
            try:
                note = json.loads(line)
                _REPLAYED[note["what"]]
            except (ValueError, KeyError, TypeError) as error:
                raise StateInputError(f"line {number} of {self.path} is no line of a journal") from error
            yield note


def _lock(handle: int) -> None:
    """Block other processes from adding until the file is closed."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)


def begin_notes(connection: Connection) -> list[Mapping[str, Any]]:
    """Return the list that collects the acts of the transaction that begins."""
    notes: list[Mapping[str, Any]] = []
    connection.info[_NOTES] = notes
    return notes


def note(connection: Connection, what: str, **about: Any) -> None:
    """Note an act for the journal of the connection's database, and record it as an event with its actor."""
    notes = connection.info.get(_NOTES)
    if notes is not None:
        notes.append({"what": what, **about})
        events.keep(connection, what, about.get("at") or int(1000 * time.time()), about)


def replay(connection: Connection, notes: Iterator[dict[str, Any]]) -> int:
    """Repeat the noted acts if they are not in effect, and return the number of all acts."""
    count = 0
    for one in notes:
        _REPLAYED[one["what"]](connection, one)
        count += 1
    return count


def forget(connection: Connection, device: str) -> int:
    """Erase all rows of a device and its users, so that the name is free; returns the number of rows.

    The journal notes the device's name, because otherwise a restore would bring it back.
    """
    note(connection, "device forgotten", device=device)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")  # overwrite also pages that become free
    erased = 0
    for column in (
        device_keys.c.device,
        enrolments.c.device,
        enrolments.c.used_by,
        packages.c.device,
        feedback.c.device,
        devices.c.id,
    ):
        mine = or_(column == device, column.startswith(f"{device}:", autoescape=True))
        erased += connection.execute(delete(column.table).where(mine)).rowcount
    return erased + events.erase(connection, device)


def _forgotten(connection: Connection, one: Mapping[str, Any]) -> None:
    forget(connection, one["device"])


def _enrolled(connection: Connection, one: Mapping[str, Any]) -> None:
    at, device = one["at"], one["device"]
    used = update(enrolments).where(enrolments.c.digest == one["token"], enrolments.c.used_at.is_(None))
    connection.execute(used.values(used_at=at, used_by=device))
    _only(connection, device, [one["key"]], at)
    if connection.execute(select(devices.c.id).where(devices.c.id == device)).first() is None:
        row = {"id": device, "sequence": 0, "first_seen_at": at, "last_seen_at": at}
        connection.execute(insert(devices).values(row))


def _rotated(connection: Connection, one: Mapping[str, Any]) -> None:
    _only(connection, one["device"], [one["key"], one["former"]], one["at"])
    former = update(device_keys).where(device_keys.c.public_key == one["former"])
    connection.execute(former.values(ends_at=one["ends_at"]))


def _only(connection: Connection, device: str, keys: list[str], at: int) -> None:
    """Make the first of `keys` valid without end, and end all keys of the device that are not in `keys`."""
    _end(connection, at, device_keys.c.device == device, device_keys.c.public_key.not_in(keys))
    mine = update(device_keys).where(device_keys.c.public_key == keys[0], device_keys.c.device == device)
    if not connection.execute(mine.values(ends_at=None)).rowcount:
        connection.execute(
            insert(device_keys).values({"public_key": keys[0], "device": device, "added_at": at})
        )


def _revoked(connection: Connection, one: Mapping[str, Any]) -> None:
    _end(connection, one["at"], device_keys.c.device == one["device"])


def _end(connection: Connection, at: int, *which: Any) -> None:
    holds = or_(device_keys.c.ends_at.is_(None), device_keys.c.ends_at > at)
    connection.execute(update(device_keys).where(*which, holds).values(ends_at=at))


def _granted(connection: Connection, one: Mapping[str, Any]) -> None:
    _withdrawn(connection, one)
    row = {"name": one["name"], "digest": one["digest"], "role": one["role"], "made_at": one["at"]}
    row["expires_at"] = one.get("expires_at")  # older journals do not have it
    connection.execute(insert(operators).values(row))


def _withdrawn(connection: Connection, one: Mapping[str, Any]) -> None:
    connection.execute(delete(operators).where(operators.c.name == one["name"]))


def _rolled_back(connection: Connection, one: Mapping[str, Any]) -> None:
    gone = update(models).where(models.c.version == one["version"], models.c.digest == one["digest"])
    connection.execute(gone.where(models.c.withdrawn_at.is_(None)).values(withdrawn_at=one["at"]))


def _published(connection: Connection, one: Mapping[str, Any]) -> None:
    """Restore a published version, so that it is in service and its number is not given again."""
    if connection.execute(select(models.c.version).where(models.c.version == one["version"])).first() is None:
        names = ("version", "model", "digest", "form", "task", "share", "published_at")
        connection.execute(insert(models).values({name: one[name] for name in names}))


def keep_recall(connection: Connection, one: Mapping[str, Any]) -> None:
    """Replace the recalls of a base model by the values of a journal's line."""
    connection.execute(delete(recalls).where(recalls.c.model == one["model"]))
    row = {name: one[name] for name in ("model", "number", "since", "to_base")}
    connection.execute(insert(recalls).values(row))


def _endorsed(connection: Connection, one: Mapping[str, Any]) -> None:
    if connection.execute(select(endorsements.c.old).where(endorsements.c.old == one["old"])).first() is None:
        row = {name: one[name] for name in ("old", "new", "signature")}
        connection.execute(insert(endorsements).values(**row, made_at=one["at"]))


def _token_withdrawn(connection: Connection, one: Mapping[str, Any]) -> None:
    ended = update(enrolments).where(enrolments.c.digest == one["token"], enrolments.c.used_at.is_(None))
    connection.execute(ended.values(expires_at=one["at"]))


_REPLAYED = {
    "device forgotten": _forgotten,
    "token withdrawn": _token_withdrawn,
    "enrolled": _enrolled,
    "key changed": _rotated,
    "device revoked": _revoked,
    "operator granted": _granted,
    "operator withdrawn": _withdrawn,
    "version published": _published,
    "version withdrawn": _rolled_back,
    "recalled": keep_recall,
    "signing key endorsed": _endorsed,
}
