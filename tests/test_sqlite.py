"""What every SQLite database of the library needs."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from paramcast.sqlite import execute_patiently

WAL = "PRAGMA journal_mode=WAL"


def test_a_journal_is_changed_once_no_reader_is_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    with (
        closing(sqlite3.connect(file, check_same_thread=False)) as other,
        closing(sqlite3.connect(file, timeout=0)) as own,
    ):
        other.execute("CREATE TABLE t (a)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM t").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            own.execute(WAL)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            execute_patiently(own, WAL, 0)
        timer = threading.Timer(0.1, other.rollback)
        timer.start()
        execute_patiently(own, WAL, 60)
        timer.join()
        assert own.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_other_errors_are_raised_at_once(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "new.db")) as own,
        pytest.raises(sqlite3.OperationalError, match="syntax"),
    ):
        execute_patiently(own, "NOT SQL", 60)
