"""What the cloud service does: adaptations a second, against the bare generator; latencies; bytes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.bench.load import Connection, closed_loop, http_request, open_loop
from paramcast.bench.rows import row
from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.errors import ParamcastError
from paramcast.models.edits import FORMS
from paramcast.training.model import TrainedModel
from paramcast.training.serving import TorchBackend
from paramcast.wire import AdaptRequest

DEVICES, CONNECTIONS = 64, 16
BARE = "the bare generator, one request a call"
_START_S = 120
_SERVE = "from paramcast.cli import main; main()"


def bench_service(model_dir: Path | None, seed: int, seconds: float = 5.0) -> list[dict[str, Any]]:
    """Load a real server in a process of its own over loopback.

    Without a model, ones of the default sizes with random parameters are made: they cost the same time.

    Args:
        model_dir: A trained model; its form is then the only one.
        seed: Of the made-up requests.
        seconds: Length of each load.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for form in FORMS:
            model, folder = TrainedModel.load(model_dir) if model_dir else untrained_model(form), model_dir
            if folder is None:
                folder = Path(scratch) / form
                model.save(folder)
            requests = [
                made_up_request(model, f"bench-{number}", seed=seed + number) for number in range(DEVICES)
            ]
            with serving(folder, Path(scratch)) as url:
                rows += asyncio.run(_form_rows(model.config.form, url, requests[0], seconds))
                if model_dir or form == "codes":
                    rows = [*_load_rows(model, url, requests, seconds), *rows]
            if model_dir:
                break
    return rows


@contextmanager
def serving(model: Path, scratch: Path) -> Iterator[str]:
    """`paramcast serve` in a process of its own on a free port; yields its URL once it answers.

    Raises:
        ParamcastError: It does not start.
    """
    ready = scratch / "ready.json"
    ready.unlink(missing_ok=True)
    options = ["--model", model, "--port", 0, "--key", scratch / "key", "--ready-file", ready]
    command = [sys.executable, "-c", _SERVE, "serve", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + _START_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > end:
                    raise ParamcastError(f"the server did not start: {' '.join(command[3:])}")
                time.sleep(0.05)
            yield json.loads(ready.read_text())["url"]
        finally:
            process.terminate()


def _load_rows(
    model: TrainedModel, url: str, requests: list[AdaptRequest], seconds: float
) -> list[dict[str, Any]]:
    """Throughput in turns with the bare generator; then latencies at half of it."""
    sent = [http_request(request.encode()) for request in requests]
    backend = TorchBackend(model)
    asyncio.run(closed_loop(url, sent, CONNECTIONS, seconds / 4))  # both warm
    _bare_rate(backend, requests, seconds / 4)
    rates = []
    for _ in range(3):
        bare = _bare_rate(backend, requests, seconds / 3)
        taken = asyncio.run(closed_loop(url, sent, CONNECTIONS, seconds / 3))
        rates.append((len(taken) / (seconds / 3), bare))
    over_http, bare = np.median(rates, axis=0)
    ratio = float(np.median([rate / alone for rate, alone in rates]))
    delays = asyncio.run(open_loop(url, sent, 4 * CONNECTIONS, over_http / 2, seconds))
    p50, p99 = np.percentile(delays, [50, 99])
    return [
        row("throughput", float(over_http), "adaptations/s", f"{BARE} ({bare:.0f}/s)", ratio),
        row("latency_p50", float(p50), "ms"),
        row("latency_p99", float(p99), "ms"),
    ]


def _bare_rate(backend: TorchBackend, requests: list[AdaptRequest], seconds: float) -> float:
    """Calls of one request a second, as the service makes them."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        backend.generate([requests[done % len(requests)]])
        done += 1
    return done / (time.perf_counter() - start)


async def _form_rows(form: str, url: str, request: AdaptRequest, seconds: float) -> list[dict[str, Any]]:
    """Bytes of the bodies, and milliseconds from sending to having the package whole, one at a time."""
    body = request.encode()
    connection = await Connection.open(url)
    down = len(await connection.exchange(http_request(body)))
    connection.close()
    taken = await closed_loop(url, [http_request(body)], 1, seconds / 2)
    p50, p99 = np.percentile(taken, [50, 99])
    return [
        row(f"adapt_{form}_bytes_up", len(body), "bytes"),
        row(f"adapt_{form}_bytes_down", down, "bytes"),
        row(f"adapt_{form}_p50", float(p50), "ms"),
        row(f"adapt_{form}_p99", float(p99), "ms"),
    ]
