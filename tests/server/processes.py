"""Runs `paramcast` in separate processes, with tiny artifacts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts import make_artifact
from click.testing import CliRunner

from paramcast.cli import paramcast
from paramcast.errors import ParamcastError

# GATE is the path of a file: while the file exists, the hypernetwork waits.
RUN = """
import os, sys, time
gate = os.environ.get("GATE")
if gate:
    from paramcast.artifact.server_read import OnnxHypernetwork
    generate = OnnxHypernetwork.generate
    def gated(self, requests):
        if requests[0].device == "probe":  # tried as it is opened
            return generate(self, requests)
        if os.path.exists(gate):
            open(gate + ".entered", "w").close()
        while os.path.exists(gate):
            time.sleep(0.005)
        return generate(self, requests)
    OnnxHypernetwork.generate = gated
for name in sys.argv[1].split(","):
    if name:
        sys.modules[name] = None
sys.argv = ["paramcast", *sys.argv[2:]]
from paramcast.cli import main
main()
"""


def command(*words: object, without: str = "") -> list[str]:
    return [sys.executable, "-c", RUN, without, *map(str, words)]


def run(*words: object, code: int = 0) -> str:
    """Run a command in this process; return its output, or its error if `code` says that it must fail."""
    result = CliRunner().invoke(paramcast, list(map(str, words)))
    if code:
        assert isinstance(result.exception, ParamcastError), result.output
        assert result.exception.exit_code == code
        return str(result.exception)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


class Service:
    """A running `paramcast serve` with the artifact in `folder`, which is made if it does not exist."""

    def __init__(self, folder: Path, *options: object, **environment: str) -> None:
        ready = folder / "ready.json"
        ready.unlink(missing_ok=True)
        self.log = folder / "serve.log"
        artifact = folder / "artifact"
        if not artifact.exists():
            make_artifact(artifact)
        words = ["serve", artifact, "--port", 0, "--key", folder / "cloud.key", "--ready-file", ready]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(*words, *options), stdout=log, stderr=log, env={**os.environ, **environment}
            )
        end = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        told: dict[str, Any] = json.loads(ready.read_text())
        self.url, self.public_key = str(told["url"]), str(told["public_key"])

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@contextmanager
def service(folder: Path, *options: object, **environment: str) -> Iterator[Service]:
    running = Service(folder, *options, **environment)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)
