"""Opening the database: SQLite by default, PostgreSQL by URL; the schema is brought up to date on the way."""

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
"""Seconds that a statement waits for a lock in PostgreSQL; beyond, requests are answered 503."""

MIGRATION_S = 600
"""Seconds that a service which starts waits in PostgreSQL for another one that changes the schema."""

VIEWERS_WAIT_S = 5

_PRAGMAS = (
    "secure_delete=FAST",  # what was deleted is overwritten where that costs no further page
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "cache_size=-65536",  # 64 MiB
    "wal_autocheckpoint=20000",  # pages: `checkpoint` comes long before, and keeps nobody waiting
)
_NO_STATE = "there is no state at {where}; `paramcast serve` makes one, or: paramcast state upgrade --new"
_MIGRATION_LOCK = 7_303_014_920  # of PostgreSQL's advisory locks: any number that others do not use


class Database:
    """A database with the schema of this version. Safe to use from several threads.

    SQLite runs with a write-ahead log that is synced at checkpoints: what was committed survives a killed
    process, not always a power cut. After one, what a device reports still keeps its numbers from going back.
    """

    def __init__(self, engine: Engine, journal: Journal | None = None) -> None:
        """Use `Database.open`.

        `who` is kept with what is done to the state, where a transaction names nobody else.
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
        """Open the database, and bring its schema to `revision`.

        Args:
            where: A file for SQLite, or a URL: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`.
            revision: An older schema only for tests of migrations.
            only_old: Refuse one that has none: a command that is told a wrong place must not make one there.
            as_it_is: Leave the schema alone, whatever it is.
            journal: Where to note what a restore of a backup may not bring back; beside a state in a file.

        Raises:
            StateInputError: If the URL is no such URL, or the schema is that of a newer version.
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
        """A database in a temporary file that goes with this object: for a service that may forget."""
        folder = tempfile.mkdtemp(prefix="paramcast-state-")
        database = cls.open(Path(folder) / "state.db")
        weakref.finalize(database, _remove, database._engines, folder)
        return database

    def for_viewers(self) -> Database:
        """The same database over a few connections of its own: whoever looks at much keeps no device waiting.

        A look waits `VIEWERS_WAIT_S` for a connection, then it is a StateError. Closed with this one.
        """
        engine = _engine(self.engine.url, pool_size=2, max_overflow=2, pool_timeout=VIEWERS_WAIT_S)
        self._engines.append(engine)
        return Database(engine, self._journal)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for one look at the state. Raises StateError."""
        with told(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees one moment, whatever is written meanwhile. Raises StateError."""
        with told(self.engine), self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            without_limits(connection)
            yield connection

    @contextmanager
    def writing(self, who: str | None = None) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, nothing of it kept after an error.

        Args:
            who: Acts in it.

        Raises:
            StateError: If the database failed, also if it did so in committing.
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
                self._journal.add(notes)  # before it is committed: what was told to be done is never missing

    def check(self) -> None:
        """See that it can be written to now, by writing: a full disk is seen by nothing less.

        Raises:
            StateError: It cannot.
        """
        with self.writing() as connection:
            nobody = {"id": "", "sequence": 0, "first_seen_at": 0, "last_seen_at": 0}
            connection.execute(insert(devices).values(nobody))
            connection.execute(delete(devices).where(devices.c.id == ""))

    def checkpoint(self, empty: bool = False) -> None:
        """Move what is in SQLite's log into its file: takes a sync of the disk, which no answer waits for.

        Args:
            empty: Empty the log too, so that it holds nothing that was erased; waits for readers.
        """
        if self.engine.dialect.name == "sqlite":
            with self.reading() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql(f"PRAGMA wal_checkpoint({'TRUNCATE' if empty else 'PASSIVE'})")

    def take_stock(self) -> None:
        """Have PostgreSQL look at what its tables hold, after much was written at once.

        It does so by itself within a minute; until then it takes the devices of one batch for a sixth of all,
        and reads whole tables for them.
        """
        if self.engine.dialect.name == "postgresql":
            with self.writing() as connection:
                without_limits(connection)
                connection.exec_driver_sql("ANALYZE")

    def revision(self) -> str:
        """The revision of the schema."""
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
    """Turn what SQLAlchemy raises into a StateError that names the database without its password."""
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
    """Let the statements of this transaction take their time: nobody waits for an answer."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def journal_of(where: str | Path) -> Journal | None:
    """The journal beside the state, if that is a file."""
    url = _url(where)
    if url.get_backend_name() != "sqlite":
        return None
    return Journal(Path(str(url.database)).with_suffix(".journal"))


def opened_new(where: str | Path) -> Engine:
    """An engine for a place where a state is to be made. Raises StateInputError for no such place."""
    url = _url(where)
    if url.get_backend_name() == "sqlite":
        _make_private(Path(str(url.database)))
    return _engine(url)


def _make_private(file: Path) -> bool:
    """Make the file, if there is none, for its owner alone: it tells which devices there are, and where.

    Returns:
        Whether it is new.
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
            # A connection that the server has closed meanwhile (a restart) is replaced before it is used.
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

    # As SQLAlchemy's documentation has it: without this, Python's driver begins and commits as it likes.
    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            execute_patiently(connection, f"PRAGMA {pragma}", BUSY_S)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("paramcast_writes")
        # A transaction that reads first and writes later could not write if another one came between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _upgrade(engine: Engine, revision: str, only_old: bool, as_it_is: bool) -> None:
    """Bring the schema up to date in one transaction; of two processes, the second finds it done."""
    with engine.connect().execution_options(paramcast_writes=True) as connection, connection.begin():
        if schema_of(connection) is None and only_old:
            raise StateInputError(_NO_STATE.format(where=engine.url.render_as_string()))
        if not as_it_is:
            upgrade(connection, revision)


def schema_of(connection: Connection) -> str | None:
    """The revision of the schema that is there, if any is. Nobody changes it while the transaction lasts."""
    if connection.dialect.name == "postgresql":
        without_limits(connection)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {1000 * MIGRATION_S}")
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        # Of tables a lock is waited for as ever: whoever waits for one keeps all others waiting behind it.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {1000 * LOCKED_S}")
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to `revision`, in the caller's transaction.

    Raises:
        StateInputError: If this version does not know it, or what is there.
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
    """The revision of this version's schema."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
