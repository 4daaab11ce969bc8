"""Throughput of enrolled devices, alone and beside strangers that flood the service.

The strangers are a separate process, as they would be separate machines in practice. It runs at the lowest
priority: on one machine, the strangers should take the service's time, and not the processor's time by making
requests. Both loads are measured in turns within one run, so that other load on the machine affects both.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
from tqdm import tqdm

from experiments.wake import watched
from paramcast.bench.load import Load, closed_loop, connections, http_request
from paramcast.bench.processes import cloud_service
from paramcast.bench.rows import row, rows_table
from paramcast.bench.service import SIGNERS
from paramcast.bench.signers import PATH, Signers
from paramcast.bench.untrained import made_up_request, untrained_artifact, untrained_model
from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, seed_option

DEVICES = 32
"""Connections of devices that ask without a pause."""

TURNS = 4
ANSWER_S = 30.0
BACKLOG_S = 1.5
"""Seconds that strangers have to connect before devices are measured."""


def bench_strangers(strangers: int, seconds: float, seed: int) -> list[dict[str, Any]]:
    """Load a closed service with devices alone and beside strangers, in turns.

    Args:
        strangers: Number of their connections. A third asks for health, a third sends unsigned requests, and
            a third sends bodies that never end.
        seconds: Time with strangers, over all turns; devices are alone for half of this time.
        seed: Seed of the made-up requests.

    Raises:
        LoadError: If a device gets an answer other than its update.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))  # the service inherits it
    model = untrained_model("codes")
    requests = [made_up_request(model, f"bench-{place}", seed=seed + place) for place in range(8)]
    settings = {"require_enrolment": True, "rate_per_minute": 0}
    alone: list[Load] = []
    beside: list[Load] = []
    answers = Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = untrained_artifact(model, folder / "artifact")
        with cloud_service(artifact, folder / "cloud", **settings) as url:
            signers = Signers(folder / "cloud" / "cloud.db", requests, SIGNERS)
            body = requests[0].encode()
            with watched(url) as server:
                rate = _asked(url, signers, 1.0).rate
                for _ in tqdm(range(TURNS), desc="turns", disable=None):
                    signers.sign(int(1.5 * rate * seconds / TURNS))
                    alone.append(_asked(url, signers, seconds / TURNS / 2))
                    with _Strangers(url, strangers, body) as crowd:
                        time.sleep(BACKLOG_S)
                        beside.append(_asked(url, signers, seconds / TURNS))
                    answers.update(crowd.answers)
    return _rows(alone, beside, server.memory, answers, f"{strangers} connections of strangers", seconds)


def _asked(url: str, signers: Signers, seconds: float) -> Load:
    """Let devices ask over new connections, since idle ones are closed meanwhile."""
    with connections(url, DEVICES) as pool:
        return closed_loop(pool, signers, seconds)


def _rows(
    alone: list[Load],
    beside: list[Load],
    memory: list[float],
    answers: Counter[str],
    who: str,
    seconds: float,
) -> list[dict[str, Any]]:
    ratios = [two.rate / one.rate for one, two in zip(alone, beside, strict=True)]
    base, ratio = float(np.median([load.rate for load in alone])), float(np.median(ratios))
    against = f"alone, in turns of the same run: {base:,.0f}/s"
    slow, slow_alone = (
        float(np.median([np.percentile(load.taken_ms, 99) for load in loads])) for loads in (beside, alone)
    )
    found = [
        row("strangers_devices", base * ratio, "adaptations/s", against, ratio),
        row("strangers_worst_turn", base * min(ratios), "adaptations/s", against, min(ratios)),
        row("strangers_p99", slow, "ms", f"alone: {slow_alone:,.1f} ms", slow / slow_alone),
        row("strangers_memory", max(memory), "MB", f"before: {memory[0]:,.1f} MB", max(memory) / memory[0]),
        row("strangers_answers", sum(answers.values()) / seconds, "answers/s", who),
    ]
    return found + [row(f"strangers_{kind}", count, "in all", who) for kind, count in sorted(answers.items())]


class _Strangers:
    """A process of strangers that runs while the block runs; afterwards `answers` has their answers."""

    def __init__(self, url: str, count: int, body: bytes) -> None:
        self.answers: dict[str, int] = {}
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_crowd, args=(url, count, body, theirs), daemon=True)

    def __enter__(self) -> _Strangers:
        self._process.start()
        assert self._ours.recv() == "here"
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send("go")
        if self._ours.poll(ANSWER_S):
            self.answers = self._ours.recv()
        self._process.terminate()
        self._process.join()


def _crowd(url: str, count: int, body: bytes, talk: Connection) -> None:
    """Run in the process: connections of three kinds, which reconnect as soon as they are closed."""
    os.nice(19 - os.nice(0))
    asyncio.run(_gather(url, count, body, talk))


async def _gather(url: str, count: int, body: bytes, talk: Connection) -> None:
    asked = {
        "healthz": http_request("/healthz"),
        "unsigned": http_request(PATH, body),
        "unfinished": http_request(PATH, body)[: -len(body) // 2],
    }
    answers: Counter[str] = Counter()
    kinds = [kind for kind in asked for _ in range(count // len(asked))]
    tasks = [asyncio.create_task(_stranger(url, kind, asked[kind], answers)) for kind in kinds]
    talk.send("here")
    await asyncio.get_running_loop().run_in_executor(None, talk.recv)
    for task in tasks:
        task.cancel()
    talk.send(dict(answers))


async def _stranger(url: str, kind: str, request: bytes, answers: Counter[str]) -> None:
    """Ask again as soon as there is an answer, connect again as soon as the connection is closed."""
    parts = urlsplit(url)
    while True:
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                while True:
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    answers[f"{kind}_{head[9:12].decode()}"] += 1
                    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                    await reader.readexactly(int(length or 0))
                    if b"connection: close" in head.lower():
                        break
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            answers[f"{kind}_closed"] += 1
            await asyncio.sleep(0.01)


@click.command(name="strangers", context_settings={"show_default": True})
@click.option("--strangers", default=900, type=click.IntRange(3, 10_000), help="Their connections.")
@click.option("--seconds", default=60.0, type=click.FloatRange(min=1), help="That they are there.")
@seed_option
@json_option
def command(strangers: int, seconds: float, seed: int, json_file: Path | None) -> None:
    """Measure what is left to enrolled devices while strangers flood the service."""
    rows = bench_strangers(strangers, seconds, seed)
    tell(rows_table(rows), rows, seed, json_file)
