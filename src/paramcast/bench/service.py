"""Load tests of the cloud service: adaptations a second, against the bare generator; latencies; bytes."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from paramcast.bench.load import Connection, Load, closed_loop, connections, http_request, open_loop
from paramcast.bench.processes import cloud_service
from paramcast.bench.rows import row
from paramcast.bench.signers import Signers
from paramcast.bench.untrained import made_up_request, untrained_artifact, untrained_model
from paramcast.hypernet.forms import FORMS
from paramcast.protocol import AdaptRequest, make_key
from paramcast.server import AdaptService
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.serving import OnnxBackend

DEVICES, CONNECTIONS, SIGNERS = 64, 32, 512
PROMISED = 1000
"""Adaptations a second that every machine should reach; latency is also measured at half of this rate."""

LOADED_FORM = "codes"
"""Form of the default model, which is put under load; other forms are only timed one request at a time."""

OTHER_FORMS = tuple(form for form in FORMS if form != LOADED_FORM)
_TURNS = 8
Item = TypeVar("Item")


def bench_service(model_dir: Path | None, seed: int, seconds: float = 4.0) -> list[dict[str, Any]]:
    """Load a real server in its own process over loopback.

    Without a model, models of the default sizes with random parameters are made: they take the same time.

    Args:
        model_dir: A trained model; its form is then the only one.
        seed: Seed of the made-up requests.
        seconds: Length of each load.
    """
    forms = [TrainedModel.load(model_dir).config.form] if model_dir else [LOADED_FORM, *OTHER_FORMS]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for form in (bar := tqdm(forms, unit="form", disable=None)):
            bar.set_description(f"service, form {form}")
            model = TrainedModel.load(model_dir) if model_dir else untrained_model(form)
            artifact = untrained_artifact(model, Path(scratch) / form / "artifact")
            requests = [
                made_up_request(model, f"bench-{place}", seed=seed + place) for place in range(DEVICES)
            ]
            with cloud_service(artifact, Path(scratch) / form / "cloud", rate_per_minute=0) as url:
                rows += _form_rows(form, url, requests[0].encode(), seconds)
                if form == forms[0]:
                    signers = Signers(Path(scratch) / form / "cloud" / "cloud.db", requests, SIGNERS)
                    rows = _load_rows(url, OnnxBackend(model), requests, signers, seconds) + rows
    return rows


def _load_rows(
    url: str, backend: OnnxBackend, requests: Sequence[AdaptRequest], signers: Signers, seconds: float
) -> list[dict[str, Any]]:
    """Measure throughput in short turns with its references, so that other load on the machine affects all.

    The references run in this process, with as many requests in a call as the server's mean batch: the bare
    generator, and the service without HTTP, which decodes, generates and seals. The generator runs on one
    thread in both processes. With several threads in each of two processes, this comparison was meaningless.
    """
    bodies = [request.encode() for request in requests]
    sent = [http_request("/v1/adapt", body) for body in bodies]
    service = AdaptService(backend, make_key(), lifetime_s=3600)

    def in_process(batch: Sequence[bytes]) -> None:
        service.answer([service.read(body) for body in batch])

    with connections(url, 2 * CONNECTIONS) as pool:
        busy = pool[:CONNECTIONS]
        before = counters(pool[0])
        closed_loop(busy, sent, seconds / 4)
        batch = _mean_batch(before, counters(pool[0]))
        backend.generate(list(requests[:batch]))  # the first run of a shape is slower
        loads: list[Load] = []
        rates: list[tuple[float, ...]] = []
        signers.sign(1000)
        warm = closed_loop(busy, signers, seconds / 4)
        for _ in range(_TURNS):
            bare = _calls(backend.generate, requests, batch, seconds / _TURNS)
            loads.append(closed_loop(busy, sent, seconds / _TURNS))
            signers.sign(int(2 * warm.rate * seconds / _TURNS))
            signed = closed_loop(busy, signers, seconds / _TURNS).rate
            local = _calls(in_process, bodies, batch, seconds / _TURNS)
            single = _calls(backend.generate, requests, 1, seconds / _TURNS)
            rates.append((loads[-1].rate, signed, local, single, bare))
        over_http, over_http_signed, without_http, one_a_call, bare = np.median(rates, axis=0)
        seen = _mean_batch(before, counters(pool[0]))
        steady, cpu = _costed(pool, sent, over_http / 2, seconds)
        signers.sign(int(over_http_signed / 2 * seconds))
        steady_signed, cpu_signed = _costed(pool, signers, over_http_signed / 2, seconds)
        signers.sign(int(PROMISED / 2 * seconds))
        promised = open_loop(pool, signers, PROMISED / 2, seconds)
    against = f"the bare generator, {batch} a call: {bare:,.0f}/s"
    at_half = f"at {over_http / 2:,.0f}/s, open loop"
    at_half_signed = f"at {over_http_signed / 2:,.0f}/s, open loop"
    ratios = np.median([np.divide(r, r[-1]) for r in rates], axis=0)
    http_ratio, signed_ratio, local_ratio, single_ratio, _ = ratios
    return [
        row("throughput", over_http, "adaptations/s", against, http_ratio),
        row("throughput_signed", over_http_signed, "adaptations/s", against, signed_ratio),
        row("in_process", without_http, "adaptations/s", against, local_ratio),
        row("generator_one_a_call", one_a_call, "adaptations/s", against, single_ratio),
        *_latency_rows(steady, "", at_half),
        *_latency_rows(steady_signed, "_signed", at_half_signed),
        *_latency_rows(promised, "_signed_promised", f"at {PROMISED // 2}/s, open loop"),
        row("processor_time", cpu, "ms of the server/adaptation", at_half),
        row("processor_time_signed", cpu_signed, "ms of the server/adaptation", at_half_signed),
        row("mean_batch", seen, "requests"),
        row("load_generator", 100 * float(np.median([load.busy for load in loads])), "% of a core"),
    ]


def _latency_rows(load: Load, end: str, against: str) -> list[dict[str, Any]]:
    """Make rows of the median and the 99th percentile of an open-loop load."""
    return [
        row(f"latency_p{share}{end}", np.percentile(load.taken_ms, share), "ms", against)
        for share in (50, 99)
    ]


def _costed(
    pool: Sequence[Connection], requests: Iterable[bytes], rate: float, seconds: float
) -> tuple[Load, float]:
    """Run an open-loop load; return it, and the server's processor time for an answer in milliseconds.

    Processor time is the measure that other load on the machine disturbs least.
    """
    before = counters(pool[0])
    load = open_loop(pool, requests, rate, seconds)
    name = "process_cpu_seconds_total"
    return load, 1e3 * (counters(pool[0])[name] - before[name]) / len(load.taken_ms)


def _calls(call: Callable[[list[Item]], object], items: Sequence[Item], batch: int, seconds: float) -> float:
    """Measure the items a second that `call` processes, `batch` at a time."""
    turn, calls, start = cycle(items), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call(list(islice(turn, batch)))
        calls += 1
    return calls * batch / (time.perf_counter() - start)


def counters(connection: Connection) -> dict[str, float]:
    """Read the counters of the server."""
    return parsed(connection.exchange(http_request("/metrics")).decode())


def parsed(metrics: str) -> dict[str, float]:
    """Parse the values without labels of a text in Prometheus' format: name -> value."""
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", metrics, re.MULTILINE)}


def _mean_batch(before: dict[str, float], after: dict[str, float]) -> int:
    """Compute the mean number of requests in a batch between two readings of the counters, at least 1."""
    requests, batches = (
        after[name] - before[name] for name in ("paramcast_requests_total", "paramcast_batches_total")
    )
    return max(1, round(requests / max(1, batches)))


def _form_rows(form: str, url: str, body: bytes, seconds: float) -> list[dict[str, Any]]:
    """Measure the bytes of the bodies, and the ms from sending to the whole update, one request at a time."""
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
