"""Shared parts of the command lines of the methods (`python -m paramcast.methods.NAME`)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from paramcast.errors import ParamcastError

json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the results to this file.",
)


def run(command: click.Command) -> None:
    """Run a command; print an error that the user can correct as one line, without a traceback."""
    try:
        command()
    except ParamcastError as error:
        click.echo(f"{Path(sys.argv[0]).parent.name}: {error}", err=True)
        sys.exit(error.exit_code)
