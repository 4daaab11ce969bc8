"""Command line `paramcast COMMAND`: each command has a file, which is imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click

from paramcast import __version__
from paramcast.errors import ParamcastError

COMMANDS = {
    "data": "import and check collections",
    "train": "train a base model and its hypernetworks",
    "evaluate": "measure adaptation with its controls",
    "compare": "measure other methods on the same devices",
    "export": "write the artifact for devices and servers",
    "serve": "run the server",
    "model": "publish models, roll them back",
    "enroll": "print a one-time token for a device",
    "access": "manage operators, revoked devices and the signing key",
    "root": "make the offline key that delegates to signing keys",
    "state": "upgrade, back up and restore the server's state",
    "device": "run a device",
    "ask": "answer a question about a video",
    "search": "find videos by a sentence",
    "bench": "measure adaptation, the service and the device",
    "demo": "run all steps on a generated world",
    "doctor": "show what is installed, what is missing and how to get it",
}


class LazyGroup(click.Group):
    """Group that imports a command when it is called, so that `--help` needs no extras.

    Args:
        lines: Command -> its description, in the order in which a new user needs the commands.
        load: Function that imports the command with a given name.
        attributes: See `click.Group`.
    """

    def __init__(
        self, *, lines: Mapping[str, str], load: Callable[[str], click.Command], **attributes: Any
    ) -> None:
        super().__init__(**attributes)
        self._lines, self._load = lines, load

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in their order."""
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it; None if there is no command with that name."""
        return self._load(cmd_name) if cmd_name in self._lines else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines.items()))


def _imported(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"paramcast.cli.{name}").command
    return command


@click.group(
    cls=LazyGroup, lines=COMMANDS, load=_imported, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="paramcast")
def paramcast() -> None:
    """Generate parameters in the cloud for small multi-modal models on devices."""


def main() -> None:
    """Run the command line."""
    run(paramcast, "paramcast")


def run(group: click.Group, name: str) -> NoReturn:
    """Run a command line and exit. Errors that the user can correct are printed as one line.

    Args:
        group: The command line.
        name: Name of the program in messages.
    """
    try:
        sys.exit(group.main(prog_name=name, standalone_mode=False))
    except click.UsageError as error:
        _fail(_usage(error, name), error.exit_code)
    except ParamcastError as error:
        _fail(f"{name}: {error}", error.exit_code)
    except click.Abort:
        _fail(f"{name}: interrupted", ParamcastError.exit_code)


def _usage(error: click.UsageError, name: str) -> str:
    """Format a usage error with a reference to `--help`."""
    command = error.ctx.command_path if error.ctx else name
    # click's message for a group without a command is the whole help text.
    bare = isinstance(error, click.exceptions.NoArgsIsHelpError)
    message = "Missing command" if bare else error.format_message().rstrip(".")
    return f"{command}: {message} (see {command} --help)"


def _fail(message: str, code: int) -> NoReturn:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(code)
