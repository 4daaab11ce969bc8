"""Opens the database (SQLite by default, PostgreSQL by URL) and brings its schema up to date."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, delete, event, insert, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from paramcast.files import own_as
from paramcast.installed import install_command
from paramcast.server.db.errors import StateError, StateInputError
from paramcast.server.db.events import act_as
from paramcast.server.db.journal import Journal, begin_notes
from paramcast.server.db.schema import devices
from paramcast.sqlite import execute_patiently

BUSY_S = 10
"""Seconds that a statement waits for another process that writes to the same SQLite file."""

LOCKED_S = 3
"""Seconds that a statement waits for a lock in PostgreSQL; after that, requests are answered with 503."""

MIGRATION_S = 600
"""Seconds that a starting service waits in PostgreSQL while another process changes the schema."""

VIEWERS_WAIT_S = 5

_PRAGMAS = (
    "secure_delete=FAST",  # overwrite deleted data if that needs no further page
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "cache_size=-65536",  # 64 MiB
    "wal_autocheckpoint=20000",  # pages; `checkpoint` runs long before, and blocks no request
)
_NO_STATE = "there is no state at {where}; `paramcast serve` makes one, or: paramcast state upgrade --new"
_MIGRATION_LOCK = 7_303_014_920  # number of a PostgreSQL advisory lock that nothing else uses


class Database:
    """A database with the schema of this version. Safe to use from several threads.

    SQLite runs with a write-ahead log that is synced at checkpoints: commits survive a killed process, but
    not always a power cut. After a power cut, the numbers that devices report still keep numbers from going
    back.
    """

    def __init__(self, engine: Engine, journal: Journal | None = None) -> None:
        """Use `Database.open` instead.

        `who` is recorded as the actor of transactions that name no other one.
        """
        self.engine, self._journal = engine, journal
        self.who = "the service"
        self._engines = [engine]

    @classmethod
    def open(
        cls,
        where: str | Path,
        *,
        revision: str = "head",
        only_old: bool = False,
        as_it_is: bool = False,
        journal: Journal | None = None,
    ) -> Database:
        """Open the database and upgrade its schema to `revision`.

        Args:
            where: A file for SQLite, or a URL: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`.
            revision: An older schema is only for tests of migrations.
            only_old: Refuse a database without a schema, so that a command with a wrong path makes no state
                there.
            as_it_is: Do not change the schema.
            journal: Records acts that the restore of a backup must not undo; by default the file beside a
                state in a file.

        Raises:
            StateInputError: If the URL is invalid, there is no state with `only_old`, or the schema is
                unknown to this version.
            StateError: If the database cannot be used.
        """
        url, new = _url(where), False
        journal = journal or journal_of(where)
        if url.get_backend_name() == "sqlite":
            file = Path(str(url.database))
            if only_old and not file.exists():
                raise StateInputError(_NO_STATE.format(where=where))
            new = _make_private(file)
        engine = _engine(url)
        try:
            with told(engine):
                _upgrade(engine, revision, only_old, as_it_is)
        except BaseException:
            engine.dispose()
            raise
        if new and journal is not None:
            journal.begin()
        return cls(engine, journal)

    @classmethod
    def temporary(cls) -> Database:
        """Open a database in a temporary file that is removed with the object."""
        folder = tempfile.mkdtemp(prefix="paramcast-state-")
        database = cls.open(Path(folder) / "state.db")
        weakref.finalize(database, _remove, database._engines, folder)
        return database

    def for_viewers(self) -> Database:
        """Open the same database with a few separate connections, so that large queries delay no device.

        A query waits `VIEWERS_WAIT_S` seconds for a connection; then it raises StateError. The connections
        are closed with this object.
        """
        engine = _engine(self.engine.url, pool_size=2, max_overflow=2, pool_timeout=VIEWERS_WAIT_S)
        self._engines.append(engine)
        return Database(engine, self._journal)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for reading the state. Raises StateError."""
        with told(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection that sees a snapshot, unaffected by later writes. Raises StateError."""
        with told(self.engine), self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            without_limits(connection)
            yield connection

    @contextmanager
    def writing(self, who: str | None = None) -> Iterator[Connection]:
        """Run the block in a transaction: committed at its end, rolled back after an error.

        Args:
            who: The actor of the transaction; by default the database's `who`.

        Raises:
            StateError: If the database fails, also at the commit.
        """
        with (
            told(self.engine),
            self.engine.connect().execution_options(paramcast_writes=True) as connection,
            connection.begin(),
        ):
            notes = begin_notes(connection)
            act_as(connection, who or self.who)
            yield connection
            if notes and self._journal is not None:
                self._journal.add(notes)  # before the commit, so that no committed act is missing

    def check(self) -> None:
        """Check that the database can be written now, by a write: only a write detects a full disk.

        Raises:
            StateError: The database cannot be written.
        """
        with self.writing() as connection:
            nobody = {"id": "", "sequence": 0, "first_seen_at": 0, "last_seen_at": 0}
            connection.execute(insert(devices).values(nobody))
            connection.execute(delete(devices).where(devices.c.id == ""))

    def checkpoint(self, empty: bool = False) -> None:
        """Move the content of SQLite's log into its file. No answer waits for the sync of the disk.

        Args:
            empty: Also empty the log, so that it holds no erased data; waits for readers.
        """
        if self.engine.dialect.name == "sqlite":
            with self.reading() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql(f"PRAGMA wal_checkpoint({'TRUNCATE' if empty else 'PASSIVE'})")

    def take_stock(self) -> None:
        """Make PostgreSQL update its table statistics after many rows were written at once.

        PostgreSQL does so by itself within a minute. Until then it estimates that the devices of one batch
        are a sixth of all devices, and reads whole tables for them.
        """
        if self.engine.dialect.name == "postgresql":
            with self.writing() as connection:
                without_limits(connection)
                connection.exec_driver_sql("ANALYZE")

    def revision(self) -> str:
        """Return the revision of the schema."""
        with self.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""

    def close(self) -> None:
        """Close the connections."""
        for engine in self._engines:
            engine.dispose()


def _remove(engines: list[Engine], folder: str) -> None:
    for engine in engines:
        engine.dispose()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def told(engine: Engine) -> Iterator[None]:
    """Convert errors of SQLAlchemy to a StateError that names the database without its password."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise StateError(f"the state at {engine.url.render_as_string()} failed: {reason}") from error


def _url(where: str | Path) -> URL:
    try:
        url = URL.create("sqlite", database=str(where)) if _is_file(where) else make_url(str(where))
    except ArgumentError as error:
        raise StateInputError(f"{where} is neither a file nor a URL of a database") from error
    if url.get_backend_name() == "sqlite":
        if not url.database:
            raise StateInputError("SQLite needs a file: sqlite:///FILE")
        return url.set(drivername="sqlite")
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise StateInputError(f"{url.drivername} is no database for the state; use sqlite or postgresql")


def without_limits(connection: Connection) -> None:
    """Remove the time limit of statements in this transaction, because no device waits for them."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def journal_of(where: str | Path) -> Journal | None:
    """Return the journal beside a state in a file; None for other states."""
    url = _url(where)
    if url.get_backend_name() != "sqlite":
        return None
    return Journal(Path(str(url.database)).with_suffix(".journal"))


def opened_new(where: str | Path) -> Engine:
    """Open an engine for a new state. Raises StateInputError if `where` is no place for a state."""
    url = _url(where)
    if url.get_backend_name() == "sqlite":
        _make_private(Path(str(url.database)))
    return _engine(url)


def _make_private(file: Path) -> bool:
    """Make the file if there is none, readable only by its owner, because it reveals the fleet's devices.

    Returns:
        Whether the file is new.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        own_as(file, file.parent)
        return True
    return False


def _is_file(where: str | Path) -> bool:
    return "://" not in str(where)


def _engine(url: URL, **pool: Any) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            # A connection that the server has closed (by a restart) is replaced before it is used.
            limits = f"-c lock_timeout={int(1000 * LOCKED_S)} -c statement_timeout={1000 * BUSY_S}"
            return create_engine(
                url,
                pool_pre_ping=True,
                **{"pool_timeout": BUSY_S, **pool},
                connect_args={"connect_timeout": BUSY_S, "options": limits},
            )
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise StateInputError(f"PostgreSQL needs psycopg: {install_command('server')}") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_S}, **pool)

    # From SQLAlchemy's documentation: without this, Python's driver begins and commits by its own rules.
    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            execute_patiently(connection, f"PRAGMA {pragma}", BUSY_S)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("paramcast_writes")
        # A transaction that reads first and writes later could not write after another transaction's write.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _upgrade(engine: Engine, revision: str, only_old: bool, as_it_is: bool) -> None:
    """Upgrade the schema in one transaction; of two simultaneous processes only the first one does it."""
    with engine.connect().execution_options(paramcast_writes=True) as connection, connection.begin():
        if schema_of(connection) is None and only_old:
            raise StateInputError(_NO_STATE.format(where=engine.url.render_as_string()))
        if not as_it_is:
            upgrade(connection, revision)


def schema_of(connection: Connection) -> str | None:
    """Return the revision of the present schema, if any. No process changes it until the transaction ends."""
    if connection.dialect.name == "postgresql":
        without_limits(connection)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {1000 * MIGRATION_S}")
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        # The limit for table locks stays short, because a waiting transaction blocks all others behind it.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {1000 * LOCKED_S}")
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Upgrade the schema to `revision`, in the caller's transaction.

    Raises:
        StateInputError: If this version does not know `revision` or the present schema.
    """
    without_limits(connection)
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    current = schema_of(connection)
    if not {current, revision} <= {*known, None, "head"}:
        raise StateInputError(f"schema {current or revision} is unknown to this version: upgrade paramcast")
    if current != scripts.get_current_head() or revision != "head":
        alembic.command.upgrade(config, revision)


def newest_revision() -> str:
    """Return the revision of this version's schema."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
