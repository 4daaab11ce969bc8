"""Options and helpers of several commands."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from paramcast.errors import MissingExtraError

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

json_option = click.option("--json", "json_file", type=FILE, help="Write the results to this file.")
seed_option = click.option("--seed", default=0, type=click.IntRange(0), help="Seed of all random draws.")
noise_option = click.option(
    "--uplink-noise",
    default=0.0,
    type=click.FloatRange(0),
    help="Standard deviation of the noise on sent features, whose own deviation is 1.",
)
trained_model_option = click.option(
    "--model", "model_dir", required=True, type=FOLDER, help="Folder that `paramcast train` wrote."
)
test_data_option = click.option(
    "--data", required=True, type=FOLDER, help="Any collection; training clips are left out."
)
out_option = click.option(
    "--out",
    type=FOLDER,
    help="Folder for finished parts, so that a stopped run can continue.  [default: beside --json]",
)
trained_on_option = click.option(
    "--trained-on",
    type=FOLDER,
    help="The training collection, if it differs from --data.  [default: --data]",
)


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Raise an error that names the extra to install where a package is missing.

    Args:
        what: Command or part that needs the extra.
        extra: Name of the extra.

    Raises:
        MissingExtraError: An import in the block failed, and the missing module is no part of paramcast.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("paramcast"):
            raise
        raise MissingExtraError(what, extra) from error


def refuse_given(names: Sequence[str], other: str) -> None:
    """Refuse options of the present command that cannot be combined with another option.

    Args:
        names: Names of the parameters to refuse.
        other: The other option.

    Raises:
        click.UsageError: One of the options was given on the command line.
    """
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} cannot be combined with {other}")


@contextmanager
def parts_folder(out: Path | None, json_file: Path | None) -> Iterator[Path]:
    """Yield the folder for the finished parts of a run.

    This is `out` if given, else a folder beside the results file, else a temporary folder.
    """
    kept = out or (json_file.with_suffix(".parts") if json_file else None)
    with tempfile.TemporaryDirectory() as scratch:
        yield kept or Path(scratch) / "parts"


def typed_command() -> str:
    """Return the command line as it was typed, without the word `paramcast`."""
    program = click.get_current_context().find_root().command_path
    return " ".join([program, *sys.argv[1:]]).removeprefix("paramcast ")
