"""Compiled statements that every batch runs directly by the driver.

SQLAlchemy compiles a statement of many rows anew in each run, which takes longer than SQLite needs to run it.
Here a statement is compiled once for each number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect


class Prepared:
    """A compiled statement and the order of its parameters."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        """Compile `statement`, whose parameters are named by `bindparam`."""
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._order: Sequence[str] | None = compiled.positiontup

    def run(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Run the statement once, and return its rows as tuples."""
        return connection.exec_driver_sql(self._text, self._bound(values)).fetchall()

    def run_for_each(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run the statement for every row of values; returns no rows."""
        connection.exec_driver_sql(self._text, [self._bound(row) for row in rows])

    def _bound(self, values: Mapping[str, Any]) -> Any:
        merged = {**self._fixed, **values}
        return merged if self._order is None else tuple([merged[name] for name in self._order])


@lru_cache(maxsize=512)
def prepared(write: Callable[..., Any], dialect: Dialect, *about: int) -> Prepared:
    """Return the compiled statement of `write(dialect name, *about)`; it is compiled once."""
    return Prepared(write(dialect.name, *about), dialect)
