"""Checks a state in use for violations of its rules; the tests check the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, inspect, or_, select
from sqlalchemy.exc import DatabaseError

from paramcast.errors import InputError
from paramcast.protocol import BadSignature
from paramcast.protocol.credentials import follow
from paramcast.server.db import published
from paramcast.server.db.database import Database, newest_revision
from paramcast.server.db.identities import all_endorsements
from paramcast.server.db.schema import device_keys, devices, enrolments, metadata, operators, packages
from paramcast.server.store import ModelStore

_RESTORE = "stop the service and restore a backup: paramcast state restore"
_ENROL = "paramcast access revoke DEVICE, then enroll it anew with a token in its name"


@dataclass(frozen=True)
class Fault:
    """A violated rule, and how to repair it."""

    what: str
    cure: str


def check(database: Database, store: ModelStore | None, *, whole: bool = True) -> list[Fault]:
    """Find all faults of a state and of its published models, without any change.

    Args:
        database: The state.
        store: The store of published models; None if the service serves given folders.
        whole: Also read every page of a SQLite file, which takes a second for every few hundred MB.

    Raises:
        StateError: If the state cannot be read at all.
    """
    faults: list[Fault] = []
    revision, newest = database.revision(), newest_revision()
    if revision != newest:
        cure = "check it with the version of paramcast that runs on it, or: paramcast state upgrade"
        return [Fault(f"the schema is {revision}, this version needs {newest}", cure)]
    with database.snapshot() as connection:
        faults += look(connection, whole=whole)
        serving = published.in_service(connection) if store and not faults else []
    faults += _privacy(database)
    if store is not None:
        faults += _models(serving, store)
    return faults


def look(connection: Connection, *, whole: bool = True) -> list[Fault]:
    """Find the faults in the tables that a connection sees."""
    faults = list(_damage(connection)) if whole else []
    faults = faults or list(_schema(connection))
    if faults:  # a damaged or incomplete database cannot be queried further
        return faults
    for rule in (_references, *_RULES):
        faults += rule(connection)
    return faults


def _schema(connection: Connection) -> Iterator[Fault]:
    found = inspect(connection)
    there = set(found.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in there:
            yield Fault(f"the table {table.name} is missing", _RESTORE)
            continue
        columns = {column["name"] for column in found.get_columns(table.name)}
        if missing := sorted({column.name for column in table.columns} - columns):
            yield Fault(f"the table {table.name} lacks {', '.join(missing)}", _RESTORE)
        indices = {index["name"] for index in found.get_indexes(table.name)}
        if missing := sorted({str(index.name) for index in table.indexes} - indices):
            cure = "make it anew, as the migrations do; without it the service slows down as it grows"
            yield Fault(f"the index {', '.join(missing)} of {table.name} is missing", cure)


def _damage(connection: Connection) -> Iterator[Fault]:
    if connection.dialect.name == "sqlite":
        try:
            told = connection.exec_driver_sql("PRAGMA quick_check(5)").scalars().all()
        except DatabaseError as error:  # so much damage that SQLite gives up
            told = [str(error.orig)]
        for one in told:
            if one != "ok":
                yield Fault(f"the database's file is damaged: {one}", _RESTORE)


def _references(connection: Connection) -> Iterator[Fault]:
    if connection.dialect.name == "sqlite":  # PostgreSQL prevents such rows
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield Fault(f"row {row} of {table} names a row of {parent} that does not exist", _RESTORE)


def _some(connection: Connection, query: Select[Any], what: str, cure: str) -> Iterator[Fault]:
    """Yield a fault with the first name that the query finds and the number of others, if it finds any."""
    found = query.subquery()
    count, first = connection.execute(select(func.count(), func.min(found.c[0])).select_from(found)).one()
    if count:
        others = f" and {count - 1} more" if count > 1 else ""
        yield Fault(f"{what}: {first}{others}", cure.replace("DEVICE", str(first)))


def _sequences(connection: Connection) -> Iterator[Fault]:
    """Check that no update's number is above its device's number; otherwise numbers would be given twice."""
    above = select(packages.c.device).join(devices, devices.c.id == packages.c.device)
    yield from _some(
        connection,
        above.where(packages.c.sequence > devices.c.sequence).distinct(),
        "devices have packages with numbers above their own",
        "paramcast access reset DEVICE; the device reports its number with its next request",
    )
    negative = select(devices.c.id).where(devices.c.sequence < 0)
    yield from _some(connection, negative, "devices have negative numbers", "paramcast access reset DEVICE")


def _owners(connection: Connection) -> Iterator[Fault]:
    known = select(devices.c.id).where(devices.c.id == device_keys.c.device).exists()
    lost = select(device_keys.c.device).where(~known).distinct()
    yield from _some(
        connection, lost, "enrolled devices are not in the registry, so they are not served", _ENROL
    )
    standing = select(device_keys.c.device).where(device_keys.c.ends_at.is_(None))
    several = standing.group_by(device_keys.c.device).having(func.count() > 1)
    yield from _some(connection, several, "devices have more than one newest key", _ENROL)
    other = and_(enrolments.c.device.is_not(None), enrolments.c.device != enrolments.c.used_by)
    yield from _some(
        connection,
        select(enrolments.c.used_by).where(other),
        "devices used a token of another device",
        _ENROL,
    )
    half = select(enrolments.c.digest).where(enrolments.c.used_at.is_(None) != enrolments.c.used_by.is_(None))
    yield from _some(
        connection,
        half,
        "tokens have a time of use without a device, or a device without a time",
        "paramcast access withdraw-token",
    )


def _secrets(connection: Connection) -> Iterator[Fault]:
    """Check that the state holds only hashes of tokens, and only public keys."""
    for column, what, cure in (
        (operators.c.digest, "an operator's token is kept in the clear", "paramcast access grant NAME anew"),
        (enrolments.c.digest, "a token is kept in the clear", "withdraw it, and make another"),
        (device_keys.c.public_key, "a device's key is no public key", _ENROL),
    ):
        wrong = _not_hex(connection, column)
        if wrong:
            yield Fault(f"{what}, {wrong} in all", cure)


def _not_hex(connection: Connection, column: ColumnElement[str]) -> int:
    """Count the values that are not 64 hex digits, without naming them: they may be secrets."""
    if connection.dialect.name == "sqlite":
        strange = column.op("GLOB")("*[^0-9a-f]*")
    else:
        strange = column.op("~")("[^0-9a-f]")
    wrong = or_(func.length(column) != 64, strange)
    return int(connection.execute(select(func.count()).where(wrong)).scalar_one())


def _chain(connection: Connection) -> Iterator[Fault]:
    links = all_endorsements(connection)
    try:
        for link in links:
            follow(link.old, links)
    except BadSignature as error:
        cure = "devices cannot follow it: give them the signing key with a new artifact"
        yield Fault(f"the chain of signing keys is broken: {error}", cure)


def _served(connection: Connection) -> Iterator[Fault]:
    serving = published.in_service(connection)
    whole = {version.model for version in serving if version.share == published.WHOLE}
    for model in sorted({version.model for version in serving} - whole):
        cure = "paramcast model publish ARTIFACT, for all devices"
        yield Fault(f"no version of base model {model[:12]} serves all of its devices", cure)


_RULES: tuple[Callable[[Connection], Iterator[Fault]], ...] = (_sequences, _owners, _secrets, _chain, _served)


def _models(serving: list[published.ModelVersion], store: ModelStore) -> Iterator[Fault]:
    for digest in dict.fromkeys(version.digest for version in serving):
        version = next(one for one in serving if one.digest == digest)
        try:
            store.path(digest)
        except InputError as error:
            cure = "restore the folder from its backup, or: paramcast model rollback"
            yield Fault(f"version {version.version} is in service, but {error}", cure)


def _privacy(database: Database) -> Iterator[Fault]:
    url = database.engine.url
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    file = Path(url.database)
    if file.stat().st_mode & 0o077:
        yield Fault(f"others on this machine may read {file}", f"chmod 600 {file}")
