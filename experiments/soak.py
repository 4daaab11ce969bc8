"""A service under steady load for minutes: whether its memory stays flat and every request is answered."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from paramcast.bench.load import connections, open_loop
from paramcast.bench.processes import cloud_service
from paramcast.bench.rows import row, rows_table
from paramcast.bench.service import CONNECTIONS, SIGNERS, counters
from paramcast.bench.signers import Signers
from paramcast.bench.untrained import made_up_request, untrained_artifact, untrained_model
from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, seed_option
from paramcast.server import Database

TURN_S = 5.0
WARM = 0.2
"""Share of the time before memory is evaluated: pools and caches fill first."""

_COUNTED = ("process_cpu_seconds_total", "paramcast_request_bytes_sum", "paramcast_package_bytes_sum")


def bench_soak(seconds: float, rate: float, seed: int) -> list[dict[str, Any]]:
    """Load a real server with signed requests, open loop, and read its memory after every few seconds.

    Args:
        seconds: Length of the load.
        rate: Requests a second; an answer other than 200 fails the bench.
        seed: Seed of the made-up requests.

    Raises:
        LoadError: If a request was not answered with an update.
    """
    model = untrained_model("codes")
    requests = [made_up_request(model, f"bench-{place}", seed=seed + place) for place in range(64)]
    memory: list[float] = []
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = untrained_artifact(model, folder / "artifact")
        with cloud_service(artifact, folder / "cloud", rate_per_minute=0) as url:
            signers = Signers(folder / "cloud" / "cloud.db", requests, SIGNERS)
            held = _size(folder / "cloud" / "cloud.db")
            with connections(url, 1) as (one,):
                before = counters(one)
            end = time.monotonic() + seconds
            with tqdm(unit="request", disable=None) as bar:
                while time.monotonic() < end:
                    signers.sign(int(rate * TURN_S))
                    with connections(url, 2 * CONNECTIONS) as pool:  # new: it closes idle ones
                        load = open_loop(pool, signers, rate, TURN_S)
                        counted = counters(pool[0])
                    memory.append(counted["process_resident_memory_bytes"] / 1e6)
                    taken += load.taken_ms
                    bar.update(len(load.taken_ms))
        kept = _size(folder / "cloud" / "cloud.db") - held
    each = {name: (counted[name] - before[name]) / len(taken) for name in _COUNTED}
    looked_at = np.array(memory[int(WARM * len(memory)) :])
    growth = float(np.polyfit(np.arange(len(looked_at)), looked_at, 1)[0]) * 60 / TURN_S
    half = len(looked_at) // 2
    first, last = float(np.median(looked_at[:half])), float(np.median(looked_at[half:]))
    return [
        row("soak_answers", len(taken), "requests", f"at {rate:,.0f}/s for {seconds:,.0f} s, none refused"),
        row("soak_processor_time", 1e3 * each[_COUNTED[0]], "ms of the server/adaptation"),
        row("soak_bytes_up", each[_COUNTED[1]], "bytes/adaptation"),
        row("soak_bytes_down", each[_COUNTED[2]], "bytes/adaptation"),
        row("soak_bytes_on_record", kept / len(taken), "bytes/adaptation"),
        row("soak_p99", float(np.percentile(taken, 99)), "ms"),
        row("soak_memory", last, "MB", f"the first half after warming: {first:,.1f} MB", last / first),
        row("soak_growth", growth, "MB a minute"),
    ]


def _size(state: Path) -> int:
    """Count the bytes of a SQLite file, including its log."""
    database = Database.open(state)
    database.checkpoint()
    with database.reading() as connection:
        pages, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "page_size")
        )
    database.close()
    return pages * size


@click.command(name="soak", context_settings={"show_default": True})
@click.option("--seconds", default=300.0, type=click.FloatRange(5), help="Length of the load.")
@click.option("--rate", default=500.0, type=click.FloatRange(1), help="Signed requests a second.")
@seed_option
@json_option
def command(seconds: float, rate: float, seed: int, json_file: Path | None) -> None:
    """Load a real server for minutes, and check that its memory stays flat and every request is answered."""
    rows = bench_soak(seconds, rate, seed)
    tell(rows_table(rows), rows, seed, json_file)
