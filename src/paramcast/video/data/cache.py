"""Feature cache: arrays by content in one SQLite database, safe for several processes and against a kill.

Each call opens and closes its own connection: nothing is shared with forks or threads, and nothing stays
open. In WAL mode, a batch is stored completely or not at all, even if the process is killed.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np

from paramcast.paths import cache_dir
from paramcast.sqlite import execute_patiently

T = TypeVar("T")
BUSY_SECONDS = 60.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, columns INTEGER, value BLOB) WITHOUT ROWID"
)
_KEYS_A_QUERY = 500  # SQLite allows 999 in old builds


def digest(*parts: object) -> bytes:
    """Compute a key (32 bytes) of `parts`; it includes their lengths, so that different lists differ."""
    state = blake2b(digest_size=32)
    for part in parts:
        text = part if isinstance(part, bytes) else str(part).encode()
        state.update(len(text).to_bytes(8, "little") + text)
    return state.digest()


def digest_files(paths: Sequence[Path]) -> bytes:
    """Compute a key (32 bytes) of the bytes of `paths`, in order. Files are streamed. Raises OSError."""
    state = blake2b(digest_size=32)
    for path in paths:
        state.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    return state.digest()


class FeatureCache:
    """Float32 matrices by key, in `path` (by default `features/features.sqlite` of the cache folder)."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir("features") / "features.sqlite"

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the arrays, (rows, columns) float32, read-only, of the `keys` that are stored."""

        def read(connection: sqlite3.Connection) -> dict[bytes, np.ndarray]:
            found = {}
            for first in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[first : first + _KEYS_A_QUERY]
                query = f"SELECT * FROM features WHERE key IN ({','.join('?' * len(some))})"
                for key, columns, value in connection.execute(query, some):
                    found[key] = np.frombuffer(value, "<f4").reshape(-1, columns)
            return found

        return self._with_connection(read)

    def put(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Store (rows, columns) arrays with columns >= 1 as float32, all or none of them."""
        rows = [
            (key, value.shape[1], np.ascontiguousarray(value, "<f4").tobytes())
            for key, value in values.items()
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)

        self._with_connection(write)

    def _with_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; if the database is broken, set it aside and use a new one."""
        try:
            with self._connection() as connection:
                return work(connection)
        except sqlite3.OperationalError:
            raise  # locked, disk full, read-only: the file itself is not broken
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            with self._connection() as connection:
                return work(connection)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection, connection:
            execute_patiently(connection, "PRAGMA journal_mode=WAL", BUSY_SECONDS)
            connection.execute("PRAGMA synchronous=NORMAL")  # WAL: a power cut may lose a batch, no more
            connection.execute(_TABLE)
            yield connection

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.broken-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            # Another process may have set it aside first.
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        message = (
            f"the feature cache was broken ({error}); it is moved to {aside} and features are computed again"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=4)
