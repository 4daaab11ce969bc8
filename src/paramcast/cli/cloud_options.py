"""Options of the commands of the cloud, and the state that they work on."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paramcast.cli.common import FILE, needs

if TYPE_CHECKING:
    from paramcast.server import Database


_JOURNAL = "paramcast.journal"


def _take_settings(context: click.Context, _: click.Parameter, config: Path | None) -> None:
    """Use the settings of a service as the defaults of this command."""
    if config is None:
        return
    with needs("--config", "server"):
        from paramcast.server.settings import Settings
    settings = Settings.gather(config)
    context.meta[_JOURNAL] = settings.journal
    context.default_map = {
        "state": settings.where,
        "store": settings.store,
        "key_file": settings.key,
    }


def state_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options `--state` and `--config` to a command; the settings file names the state, too."""
    state = click.option(
        "--state",
        envvar="PARAMCAST_STATE",
        default="paramcast.db",
        help="The service's state: a file for SQLite, or postgresql://USER@HOST/NAME.",
    )
    config = click.option(
        "--config",
        type=FILE,
        envvar="PARAMCAST_CONFIG",
        is_eager=True,
        expose_value=False,
        callback=_take_settings,
        help="The service's TOML file of settings, which names the state, the store and the key.",
    )
    return config(state(command))


store_option = click.option(
    "--store",
    envvar="PARAMCAST_STORE",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of published models.  [default: beside a state in a file]",
)


@contextmanager
def opened_state(state: str, what: str, *, new: bool = False, as_it_is: bool = False) -> Iterator[Database]:
    """Open the state until the block ends.

    Args:
        state: File for SQLite, or URL of PostgreSQL.
        what: Command that opens the state, for messages and the journal.
        new: Whether to make a state where there is none.
        as_it_is: Whether to leave the schema as it is; else it is brought up to date.

    Raises:
        MissingExtraError: The cloud's packages are not installed.
        StateInputError: `state` is no file or URL, or there is no state.
        StateError: The state cannot be used.
    """
    with needs(what, "server"):
        from paramcast.server import Database
        from paramcast.server.db.journal import Journal
    told = click.get_current_context().meta.get(_JOURNAL) or os.environ.get("PARAMCAST_JOURNAL")
    journal = Journal(Path(told)) if told else None
    database = Database.open(state, only_old=not new, as_it_is=as_it_is, journal=journal)
    database.who = f"{getpass.getuser()} by {what}"
    try:
        yield database
    finally:
        database.close()
