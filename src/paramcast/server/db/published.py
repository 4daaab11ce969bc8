"""Published versions of models: which versions are in service, and for what share of the devices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from paramcast.server.db.errors import StateConflictError, StateInputError
from paramcast.server.db.journal import note
from paramcast.server.db.recalls import say_anew
from paramcast.server.db.schema import models

WHOLE = 100


@dataclass(frozen=True)
class ModelVersion:
    """A row of `models`.

    Attributes:
        version: Grows with every publication.
        model: sha256 of the base model that its updates are for.
        digest: sha256 of its files.
        form: Name of the adapter.
        task: The user's name for the task of the model.
        share: Percent of devices that the version serves, 1..100.
        published_at: Unix milliseconds.
        withdrawn_at: Unix milliseconds, or None while it is in service.
    """

    version: int
    model: str
    digest: str
    form: str
    task: str
    share: int
    published_at: int
    withdrawn_at: int | None = None


def serves(version: ModelVersion, device: str) -> bool:
    """Check whether `device` is in the version's share.

    The devices in a share are always the same, and a larger share contains the devices of a smaller one.
    """
    if version.share >= WHOLE:
        return True
    place = hashlib.sha256(f"{version.model} {device}".encode()).digest()
    return int.from_bytes(place[:8], "big") * WHOLE < version.share << 64


def publish(
    connection: Connection, *, model: str, digest: str, form: str, task: str, share: int, now_ms: int
) -> ModelVersion:
    """Put a version in service for `share` percent of the devices of its base model.

    Raises:
        StateInputError: If the share is not 1..100, or is below 100 while no version serves all devices.
    """
    if not 1 <= share <= WHOLE:
        raise StateInputError(f"a share is 1 to {WHOLE} percent, not {share}")
    if share < WHOLE and not any(older.share == WHOLE for older in in_service(connection, model)):
        raise StateInputError(
            f"no version of base model {model[:12]} serves all devices; first publish one with share {WHOLE}"
        )
    row: dict[str, Any] = {
        "model": model,
        "digest": digest,
        "form": form,
        "task": task,
        "share": share,
        "published_at": now_ms,
    }
    version = connection.execute(insert(models).values(row).returning(models.c.version)).scalar_one()
    note(connection, "version published", at=now_ms, version=version, **row)
    return ModelVersion(version=version, **row)


def in_service(connection: Connection, model: str | None = None) -> list[ModelVersion]:
    """List the versions that serve devices, the newest first.

    Versions older than a version that serves all devices are not in service.
    """
    query = select(models).where(models.c.withdrawn_at.is_(None)).order_by(models.c.version.desc())
    if model is not None:
        query = query.where(models.c.model == model)
    found: list[ModelVersion] = []
    covered: set[str] = set()
    for row in connection.execute(query):
        if row.model not in covered:
            found.append(ModelVersion(**row._mapping))
        if row.share == WHOLE:
            covered.add(row.model)
    return found


def all_versions(connection: Connection) -> Sequence[ModelVersion]:
    """List all versions, also withdrawn ones, the newest first."""
    query = select(models).order_by(models.c.version.desc())
    return [ModelVersion(**row._mapping) for row in connection.execute(query)]


def withdraw(
    connection: Connection, model: str | None, now_ms: int, version: int | None = None
) -> list[ModelVersion]:
    """Withdraw the newest version, so that the version before serves its devices again.

    Every other version with the same files is withdrawn too; otherwise a canary of the bad model would stay
    in service. The next notice recalls the updates of these versions.

    Args:
        connection: A connection in a transaction.
        model: sha256 of the base model, or its first digits; may be None if there is only one base model.
        now_ms: Unix milliseconds.
        version: The number that the newest version must have, because another operator may have withdrawn it
            already; None: any number.

    Returns:
        All withdrawn versions, the newest first.

    Raises:
        StateInputError: If the base model is ambiguous, or no version would serve its devices.
        StateConflictError: If `version` is not the newest one.
    """
    serving = [version for version in in_service(connection) if version.model.startswith(model or "")]
    if len({version.model for version in serving}) != 1:
        told = ", ".join(sorted({version.model[:12] for version in serving})) or "none"
        raise StateInputError(f"name the base model to roll back (found: {told})")
    newest = serving[0]
    if version is not None and version != newest.version:
        raise StateConflictError(f"version {version} is not the newest in service: that is {newest.version}")
    standing = (models.c.model == newest.model, models.c.withdrawn_at.is_(None))
    before = select(models.c.version).where(
        *standing,
        models.c.version < newest.version,
        models.c.digest != newest.digest,
        models.c.share == WHOLE,
    )
    if connection.execute(before.limit(1)).first() is None:
        raise StateInputError(
            f"before version {newest.version} there is no version with other files for all devices, "
            "so a rollback is not possible"
        )
    same = (*standing, models.c.digest == newest.digest)
    query = select(models).where(*same).order_by(models.c.version.desc())
    gone = [ModelVersion(**row._mapping) for row in connection.execute(query)]
    # If two operators do this at once, the second one gets an error, on PostgreSQL too.
    if not connection.execute(update(models).where(*same).values(withdrawn_at=now_ms)).rowcount:
        raise StateConflictError(f"version {newest.version} has just been withdrawn")
    for one in gone:
        note(connection, "version withdrawn", at=now_ms, version=one.version, digest=one.digest)
    say_anew(connection, newest.model, now_ms)
    return [replace(one, withdrawn_at=now_ms) for one in gone]
