"""`paramcast state`: the service's memory, brought up to date, backed up and restored."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.cloud_options import opened_state, state_option
from paramcast.cli.common import FILE, needs
from paramcast.errors import InputError


@click.group(name="state")
def command() -> None:
    """Upgrade, back up and restore what the cloud remembers."""


@command.command()
@state_option
def upgrade(state: str) -> None:
    """Bring the schema up to date, as every command does that opens the state."""
    with opened_state(state, "paramcast state") as database:
        click.echo(f"the state has schema {database.revision()}")


@command.command()
@click.argument("file", type=FILE)
@state_option
def backup(file: Path, state: str) -> None:
    """Write the whole state, as it is at one moment, to FILE; the service may run.

    Published models and the signing key are files of their own: copy them too.
    """
    with opened_state(state, "paramcast state") as database:
        from paramcast.server.db.backup import back_up

        try:
            rows = back_up(database, file)
        except OSError as error:
            raise InputError(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"{rows} rows are in {file}")


@command.command()
@click.argument("file", type=FILE)
@state_option
def restore(file: Path, state: str) -> None:
    """Fill an empty state from FILE: also from SQLite to PostgreSQL, or back. No service may run on it."""
    with needs("paramcast state", "server"):
        from paramcast.server.db.backup import restore as fill
    click.echo(f"{fill(state, file)} rows are restored")
