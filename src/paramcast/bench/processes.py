"""A real cloud service and real devices, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paramcast.errors import ParamcastError

PARAMCAST = (sys.executable, "-m", "paramcast")
START_S = 120.0
"""Longest time in seconds in which a service may start on a busy machine."""

STOP_S = 10.0
"""Longest time in seconds in which a process may end before it is killed."""


class ProcessError(ParamcastError):
    """A process that paramcast started has failed."""


@contextmanager
def cloud_service(artifact: Path, folder: Path, **settings: object) -> Iterator[str]:
    """Run `paramcast serve` on a free port until the block ends; yields its URL.

    Args:
        artifact: The artifact to serve.
        folder: Folder of its key (`cloud.key`), its state (`cloud.db`), its log and the file that says that
            it is ready.
        settings: Settings of `paramcast.server.settings`.

    Raises:
        ProcessError: It did not start; the message has the last line of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready.json", folder / "serve.log"
    ready.unlink(missing_ok=True)
    options = [artifact, "--port", 0, "--key", folder / "cloud.key", "--ready-file", ready]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*PARAMCAST, "serve", *map(str, options)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **{f"PARAMCAST_{name.upper()}": str(value) for name, value in settings.items()},
            },
        )
    try:
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ProcessError(f"the cloud service did not start: {_last_line(log)}")
            time.sleep(0.02)
        yield str(json.loads(ready.read_text(encoding="utf-8"))["url"])
    finally:
        stop(process)


def start_device(
    bundle: Path, url: str, data: Path, device: str, fleet: Path, support: int, figures: Path
) -> subprocess.Popen[bytes]:
    """Start `paramcast device run`, which adapts over HTTP and answers; `finish_device` reads its results."""
    options = {
        "--bundle": bundle,
        "--cloud": url,
        "--data": data,
        "--device-id": device,
        "--fleet": fleet,
        "--support": support,
        "--json": figures,
    }
    words = [str(word) for option in options.items() for word in option]
    with figures.with_suffix(".log").open("wb") as output:
        return subprocess.Popen(
            [*PARAMCAST, "device", "run", *words], stdout=output, stderr=subprocess.STDOUT
        )


def finish_device(process: subprocess.Popen[bytes], figures: Path) -> dict[str, Any]:
    """Wait for a device, and read the results that it wrote to `figures`.

    Raises:
        ProcessError: It failed; the message has the last line of its log.
    """
    try:
        code = process.wait()
    finally:
        stop(process)
    if code:
        raise ProcessError(f"{figures.stem} failed: {_last_line(figures.with_suffix('.log'))}")
    found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    return found


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and wait for it; kill it if it does not end in time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "its log is empty"
