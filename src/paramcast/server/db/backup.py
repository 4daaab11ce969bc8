"""Backup of the whole state of a running service into one file, and restore into SQLite or PostgreSQL.

A backup is a snapshot. The file is gzip of JSON lines: first the schema's revision, then one line for each
row, `[table, {column: value}]`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, Table, func, insert, select, text

from paramcast.files import replacing
from paramcast.server.db.database import Database, opened_new, schema_of, told, upgrade
from paramcast.server.db.errors import StateInputError
from paramcast.server.db.journal import Journal, replay

_ROWS_AT_ONCE = 1000
_KIND = "paramcast state"
_REVISION = re.compile(r"[0-9]{4}")
_KINDS: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
"""Type of a column's values in Python -> types of the values in a backup."""

_DAMAGE = (ValueError, TypeError, KeyError, EOFError, OSError, OverflowError, RecursionError, zlib.error)


def back_up(database: Database, path: Path | str) -> int:
    """Write the state to `path` atomically; only the file's owner may read it. Returns the number of rows.

    Raises:
        StateError: If the state cannot be read.
        OSError: If the file cannot be written.
    """
    rows = 0
    with (
        replacing(path, mode=0o600) as temporary,
        gzip.open(temporary, "wt", encoding="utf-8") as file,
        database.snapshot() as connection,
    ):
        file.write(json.dumps([_KIND, database.revision()]) + "\n")
        for table in _tables(connection):
            found = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table))
            for row in found.mappings():
                file.write(json.dumps([table.name, dict(row)]) + "\n")
                rows += 1
    return rows


def restore(where: str | Path, path: Path | str, journal: Journal | None = None) -> tuple[int, int]:
    """Fill the empty database at `where` from a backup, in this version's schema and in one transaction.

    Args:
        where: A file or URL.
        path: The backup.
        journal: Acts since the backup that the restore must not undo; None if the journal is lost.

    Returns:
        Numbers of rows in the backup, and of acts in the journal.

    Raises:
        StateInputError: If the file is no backup or is damaged, or the database is not empty.
        StateError: If the database cannot be written.
    """
    notes = list(journal) if journal is not None else []
    engine = opened_new(where)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            kind, revision = _line(file.readline())
            if kind != _KIND or not isinstance(revision, str) or not _REVISION.fullmatch(revision):
                raise ValueError("its beginning is wrong")
            with (
                told(engine),
                engine.connect().execution_options(paramcast_writes=True) as connection,
                connection.begin(),
            ):
                if schema_of(connection) is not None:
                    raise StateInputError("the database holds a state already; restore into an empty one")
                upgrade(connection, revision)
                rows = _fill(connection, (_line(line) for line in file))
                upgrade(connection)
                acts = replay(connection, iter(notes))
                _count_all_on(connection)
    except _DAMAGE as error:
        raise StateInputError(f"{path} is no complete backup of a state: {error}") from error
    finally:
        engine.dispose()
    database = Database.open(where)
    database.take_stock()
    database.close()
    return rows, acts


def _line(line: str) -> tuple[Any, Any]:
    first, second = json.loads(line)
    return first, second


def _tables(connection: Connection) -> list[Table]:
    """Return the tables of the database, referenced tables first, without Alembic's table."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def _fill(connection: Connection, lines: Iterator[tuple[Any, Any]]) -> int:
    tables = {table.name: table for table in _tables(connection)}
    rows = 0
    for name, group in groupby(lines, key=lambda line: line[0]):
        table = tables[name]
        values = (_checked(table, row) for _, row in group)
        while part := list(islice(values, _ROWS_AT_ONCE)):
            connection.execute(insert(table), part)
            rows += len(part)
    _count_all_on(connection)
    return rows


def _checked(table: Table, row: Any) -> dict[str, Any]:
    """Check a row, because SQLite stores any value in any column. Raises ValueError."""
    if not isinstance(row, dict) or row.keys() != set(table.columns.keys()):
        raise ValueError(f"a row of {table.name} does not have the table's columns")
    for column in table.columns:
        value = row[column.name]
        if not (column.nullable if value is None else _fits(value, column.type.python_type)):
            raise ValueError(f"a row of {table.name} has a wrong value of {column.name}")
    return row


def _fits(value: Any, kind: type) -> bool:
    return type(value) in _KINDS[kind] and (not isinstance(value, int) or -(2**63) <= value < 2**63)


def _count_all_on(connection: Connection) -> None:
    """Make PostgreSQL number new rows above all present rows; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in _tables(connection):
        for column in table.columns:
            if column.autoincrement is True or "nextval" in str(getattr(column.server_default, "arg", "")):
                _count_on(connection, table, column.name)


def _count_on(connection: Connection, table: Table, column: str) -> None:
    """Make PostgreSQL give numbers above the present ones in one column."""
    highest = connection.execute(select(func.max(table.c[column]))).scalar()
    if highest is not None:
        found = text("SELECT setval(pg_get_serial_sequence(:table, :column), :highest)")
        connection.execute(found, {"table": table.name, "column": column, "highest": highest})
