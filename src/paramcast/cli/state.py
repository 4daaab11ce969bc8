"""`paramcast state`: upgrade, back up and restore the state of the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from paramcast.cli.cloud_options import opened_state, state_option
from paramcast.cli.common import FILE, needs
from paramcast.errors import InputError

if TYPE_CHECKING:
    from paramcast.server.db.journal import Journal


@click.group(name="state")
def command() -> None:
    """Upgrade, back up and restore the state of the cloud."""


@command.command()
@click.option("--new", is_flag=True, help="Make a state if there is none, as `paramcast serve` does.")
@state_option
def upgrade(new: bool, state: str) -> None:
    """Bring the schema of the state up to date. Every command that opens the state does this too."""
    with opened_state(state, "paramcast state", new=new) as database:
        click.echo(f"the state has schema {database.revision()}")


@command.command()
@click.argument("file", type=FILE)
@state_option
def backup(file: Path, state: str) -> None:
    """Write a consistent copy of the whole state to FILE; the service may run meanwhile.

    Published models and the signing key are separate files; copy them too.
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
@click.option(
    "--journal",
    type=FILE,
    help="Acts after the backup, such as revocations: the .journal beside the former state.  [default: "
    "the journal beside the new state]",
)
@click.option(
    "--without-journal", is_flag=True, help="The journal is lost: revocations after the backup are lost too."
)
@state_option
def restore(file: Path, journal: Path | None, without_journal: bool, state: str) -> None:
    """Fill an empty state from the backup FILE. No service may use the state meanwhile.

    A backup of SQLite can be restored to PostgreSQL, and the other way round. The journal ensures that
    devices, tokens, operators and versions that were revoked after the backup stay revoked.
    """
    with needs("paramcast state", "server"):
        from paramcast.server.db.backup import restore as fill
        from paramcast.server.db.database import journal_of
        from paramcast.server.db.journal import Journal
    found = Journal(journal) if journal else journal_of(state)
    if not without_journal and (found is None or not found.path.is_file()):
        raise InputError(
            "restore needs the journal, which has the revocations after the backup: --journal "
            "FILE.journal (it is beside the former state), or --without-journal if it is lost"
        )
    rows, acts = fill(state, file, None if without_journal else found)
    click.echo(f"{rows} rows are restored, and {acts} acts of the journal are repeated")
    if without_journal:
        click.echo(
            "repeat the revocations that were made after the backup: devices (paramcast access "
            "revoke), operators (access withdraw), versions (model rollback); change the signing "
            "key again if it was changed",
            err=True,
        )
    elif found is not None:
        _go_on(found, journal_of(state))


def _go_on(former: Journal, journal: Journal | None) -> None:
    """Copy the former journal to the new state's journal."""
    if journal is not None and journal.path.resolve() != former.path.resolve():
        journal.path.write_bytes(former.path.read_bytes())
        journal.path.chmod(0o600)
