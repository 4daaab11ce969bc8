"""Runs the command line in a separate process, as users do, or in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

import click

import paramcast.cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TINY = ("--devices", 8, "--frames", 2, "--steps", 6)


def run_paramcast(*words: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `paramcast` with warnings as errors; `python` replaces the arguments `-m paramcast`."""
    # One thread: these models are so small that a second thread would only wait for the first.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", *(python or ("-m", "paramcast")), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def run_inside(group: click.Group, name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command line in this process: a check of messages need not import torch in another one."""
    arguments = [name, *map(str, words)]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err, patch("sys.argv", arguments):
        try:
            paramcast.cli.run(group, name)
        except SystemExit as ended:
            code = ended.code
    return subprocess.CompletedProcess(arguments, int(code or 0), out.getvalue(), err.getvalue())
