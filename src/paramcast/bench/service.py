"""What the cloud service does: adaptations a second, against the bare generator; latencies; bytes."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from paramcast.bench.load import Connection, Load, closed_loop, connections, http_request, open_loop
from paramcast.bench.processes import cloud_service
from paramcast.bench.rows import row
from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.models.edits import FORMS
from paramcast.training.model import TrainedModel
from paramcast.training.serving import OnnxBackend, load_backend
from paramcast.wire import AdaptRequest

DEVICES, CONNECTIONS = 64, 32
LOADED_FORM = "codes"
"""The form of the default model: it is put under load, of the others an adaptation is timed alone."""

_TURNS = 8


def bench_service(model_dir: Path | None, seed: int, seconds: float = 4.0) -> list[dict[str, Any]]:
    """Load a real server in a process of its own over loopback.

    Without a model, ones of the default sizes with random parameters are made: they cost the same time.

    Args:
        model_dir: A trained model; its form is then the only one.
        seed: Of the made-up requests.
        seconds: Length of each load.
    """
    rows: list[dict[str, Any]] = []
    forms = [LOADED_FORM, *(form for form in FORMS if form != LOADED_FORM)] if model_dir is None else [""]
    with tempfile.TemporaryDirectory() as scratch:
        for form in (bar := tqdm(forms, unit="form", disable=None)):
            bar.set_description(form)
            folder = model_dir or Path(scratch) / form / "model"
            model = TrainedModel.load(folder) if model_dir else untrained_model(form)
            if model_dir is None:
                model.save(folder)
            requests = [
                made_up_request(model, f"bench-{place}", seed=seed + place) for place in range(DEVICES)
            ]
            with cloud_service(folder, Path(scratch) / form / "cloud") as url:
                if form in ("", LOADED_FORM):
                    rows += _load_rows(url, load_backend(folder), requests, seconds)
                rows += _form_rows(model.config.form, url, requests, seconds)
    return rows


def _load_rows(
    url: str, backend: OnnxBackend, requests: Sequence[AdaptRequest], seconds: float
) -> list[dict[str, Any]]:
    """Throughput, in short turns with the bare generator, so that what else the machine does hits both.

    The bare generator is called in this process, on as many requests a call as the server's batches had.
    """
    sent = [http_request("/v1/adapt", request.encode()) for request in requests]
    with connections(url, 2 * CONNECTIONS) as pool:
        busy = pool[:CONNECTIONS]
        before = _counters(pool[0])
        closed_loop(busy, sent, seconds / 4)
        batch = _mean_batch(before, _counters(pool[0]))
        _bare_rate(backend, requests, batch, seconds / 8)
        before, loads, bare = _counters(pool[0]), list[Load](), list[float]()
        for turn in range(_TURNS):
            for what in ("http", "bare") if turn % 2 else ("bare", "http"):
                if what == "http":
                    loads.append(closed_loop(busy, sent, seconds / _TURNS))
                else:
                    bare.append(_bare_rate(backend, requests, batch, seconds / _TURNS))
        seen = _mean_batch(before, _counters(pool[0]))
        rate = float(np.median([load.rate for load in loads]))
        ratio = float(np.median([load.rate / alone for load, alone in zip(loads, bare, strict=True)]))
        steady = open_loop(pool, sent, rate / 2, seconds)
    p50, p99 = np.percentile(steady.taken_ms, [50, 99])
    against = f"the bare generator on {batch} a call ({np.median(bare):,.0f}/s)"
    at_half = f"at {rate / 2:,.0f}/s, open loop"
    return [
        row("throughput", rate, "adaptations/s", against, ratio),
        row("latency_p50", float(p50), "ms", at_half),
        row("latency_p99", float(p99), "ms", at_half),
        row("mean_batch", seen, "requests"),
        row("load_generator", 100 * float(np.median([load.busy for load in loads])), "% of a core"),
    ]


def _bare_rate(backend: OnnxBackend, requests: Sequence[AdaptRequest], batch: int, seconds: float) -> float:
    """Adaptations a second of calls of `batch` requests."""
    turn, done, start = cycle(requests), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += len(backend.generate(list(islice(turn, batch))))
    return done / (time.perf_counter() - start)


def _counters(connection: Connection) -> dict[str, float]:
    """What the server counts."""
    text = connection.exchange(http_request("/metrics")).decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}


def _mean_batch(before: dict[str, float], after: dict[str, float]) -> int:
    """Requests a batch between two looks at the counters, at least 1."""
    requests, batches = (
        after[name] - before[name] for name in ("paramcast_requests_total", "paramcast_batches_total")
    )
    return max(1, round(requests / max(1, batches)))


def _form_rows(form: str, url: str, requests: Sequence[AdaptRequest], seconds: float) -> list[dict[str, Any]]:
    """Bytes of the bodies, and milliseconds from sending to having the package whole, one at a time."""
    body = requests[0].encode()
    sent = http_request("/v1/adapt", body)
    with connections(url, 1) as pool:
        down = len(pool[0].exchange(sent))
        alone = closed_loop(pool, [sent], seconds / 4)
    p50, p99 = np.percentile(alone.taken_ms, [50, 99])
    return [
        row(f"adapt_{form}_bytes_up", len(body), "bytes"),
        row(f"adapt_{form}_bytes_down", down, "bytes"),
        row(f"adapt_{form}_p50", float(p50), "ms"),
        row(f"adapt_{form}_p99", float(p99), "ms"),
    ]
