"""What every SQLite database of the library needs."""

from __future__ import annotations

import sqlite3
import time


def execute_patiently(connection: sqlite3.Connection, statement: str, seconds: float) -> None:
    """Execute a statement, again until no other connection is in the way.

    SQLite waits for a lock of its own accord, but not to change the journal mode of a new database.

    Args:
        connection: To the database.
        statement: One that may run twice.
        seconds: To try for.

    Raises:
        sqlite3.OperationalError: If the database is still locked then, or the statement fails otherwise.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return
