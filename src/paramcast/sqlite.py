"""Helper for every SQLite database of the library."""

from __future__ import annotations

import sqlite3
import time


def execute_patiently(connection: sqlite3.Connection, statement: str, seconds: float) -> None:
    """Execute a statement and repeat it while another connection locks the database.

    SQLite waits for a lock by itself, except when it changes the journal mode of a new database.

    Args:
        connection: Connection to the database.
        statement: A statement that may run twice.
        seconds: Time to try for.

    Raises:
        sqlite3.OperationalError: The database is still locked after `seconds`, or the statement fails
            for another reason.
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
