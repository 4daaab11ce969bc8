"""Errors that paramcast raises on purpose. Each message says what is wrong and how to correct it."""

from __future__ import annotations

from paramcast.installed import install_command


class ParamcastError(Exception):
    """Something failed although the input was correct (an unreachable cloud, a run that diverged).

    The command line prints the message on one line and exits with `exit_code`.
    """

    exit_code = 1


class InputError(ParamcastError):
    """Wrong usage or wrong input; the caller has to change something. Exit code 2."""

    exit_code = 2


class MissingExtraError(InputError):
    """A part of paramcast was used, but the optional dependencies of that part are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs paramcast[{extra}]; run: {install_command(extra)}")
