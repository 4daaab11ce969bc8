"""What several commands share."""

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
seed_option = click.option("--seed", default=0, type=click.IntRange(0), help="Of every random draw.")
noise_option = click.option(
    "--uplink-noise",
    default=0.0,
    type=click.FloatRange(0),
    help="Standard deviation of noise on what is sent, where the features' own is 1.",
)
trained_model_option = click.option(
    "--model", "model_dir", required=True, type=FOLDER, help="What `paramcast train` wrote."
)
test_data_option = click.option(
    "--data", required=True, type=FOLDER, help="Any collection; clips of training are left out."
)
out_option = click.option(
    "--out", type=FOLDER, help="Keeps what is done, so that a stopped run goes on.  [default: beside --json]"
)
trained_on_option = click.option(
    "--trained-on",
    type=FOLDER,
    help="The collection of the training, if --data is another.  [default: --data]",
)


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Say which extra to install where a package is missing.

    Raises:
        MissingExtraError: An import below failed, and it was not of a part of paramcast.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("paramcast"):
            raise
        raise MissingExtraError(what, extra) from error


def refuse_given(names: Sequence[str], other: str) -> None:
    """Refuse options of the present command that do not go with another one.

    Args:
        names: Names of the parameters.
        other: The option that is in use.

    Raises:
        click.UsageError: One of them was given.
    """
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} does not go with {other}")


@contextmanager
def parts_folder(out: Path | None, json_file: Path | None) -> Iterator[Path]:
    """Where a run keeps what is done: `out`, else beside its results, else for as long as it runs."""
    kept = out or (json_file.with_suffix(".parts") if json_file else None)
    with tempfile.TemporaryDirectory() as scratch:
        yield kept or Path(scratch) / "parts"


def typed_command() -> str:
    """The command line as it was typed; of `paramcast`, without that word."""
    program = click.get_current_context().find_root().command_path
    return " ".join([program, *sys.argv[1:]]).removeprefix("paramcast ")
