"""What the commands of the cloud share: which state they work on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paramcast.cli.common import needs

if TYPE_CHECKING:
    from paramcast.cloud import Database

state_option = click.option(
    "--state",
    envvar="PARAMCAST_STATE",
    default="paramcast.db",
    help="The service's state: a file for SQLite, or postgresql://USER@HOST/NAME.",
)
store_option = click.option(
    "--store",
    envvar="PARAMCAST_STORE",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of published models.  [default: beside a state in a file]",
)


@contextmanager
def opened_state(state: str, what: str) -> Iterator[Database]:
    """The state, open for the command `what` until the block ends.

    Raises:
        MissingExtraError: If the cloud's packages are not installed.
        StateInputError: If `state` is no file or URL.
        StateError: If it cannot be used.
    """
    with needs(what, "cloud"):
        from paramcast.cloud import Database
    database = Database.open(state)
    try:
        yield database
    finally:
        database.close()
