"""Runs the command line in a separate process, as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TINY = ("--devices", 8, "--frames", 2, "--steps", 6)


def run_paramcast(*words: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `paramcast` with warnings as errors; `python` replaces the arguments `-m paramcast`."""
    # One thread: these models are so small that a second thread would only wait for the first.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", *(python or ("-m", "paramcast")), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)
