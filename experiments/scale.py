"""Throughput of several processes on one state, and of replicas on Ray, compared with one process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from experiments import ROOT
from paramcast.bench.load import Connection, closed_loop, connections
from paramcast.bench.processes import ProcessError, cloud_service, stop
from paramcast.bench.rows import row, rows_table
from paramcast.bench.service import CONNECTIONS, SIGNERS
from paramcast.bench.signers import Signers
from paramcast.bench.untrained import made_up_request, untrained_artifact, untrained_model
from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, seed_option
from paramcast.files import write_bytes

TURNS = 5
RAY_STOP_S = 60.0


def bench_scale(
    processes: Sequence[int], replicas: Sequence[int], state: str | None, seconds: float, seed: int
) -> list[dict[str, Any]]:
    """Measure the signed adaptations a second of one process, of several, and of replicas behind Ray's proxy.

    All are asked in turns, so that other load on the machine affects all of them. They share its cores, also
    with the load generator: more processes than cores cannot be faster.

    Args:
        processes: Numbers of processes, a row for each number. Requests go to all processes in turn, as a
            load balancer sends them.
        replicas: Numbers of replicas on Ray, a row for each number.
        state: An empty state that all share: file or URL; None: a temporary SQLite file.
        seconds: Length of each load, over all turns.
        seed: Seed of the made-up requests.

    Raises:
        MissingExtraError: If there are replicas and Ray is not installed.
        ProcessError: A service did not start.
    """
    model = untrained_model("codes")
    requests = [made_up_request(model, f"bench-{place}", seed=seed + place) for place in range(64)]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        folder = Path(scratch)
        artifact = untrained_artifact(model, folder / "artifact")
        shared = state or f"sqlite:///{folder / 'cloud.db'}"
        settings = {"state": shared, "rate_per_minute": 0}
        urls = {
            f"processes_{count}": [
                running.enter_context(cloud_service(artifact, folder / f"{count}-{one}", **settings))
                for one in range(count)
            ]
            for count in dict.fromkeys([1, *processes])
        }
        signers = Signers(shared, requests, SIGNERS)
        rates = _rates(urls, signers, seconds)
        for count in replicas:  # one Ray at a time, since each takes half a gigabyte
            with _on_ray(folder, shared, count) as url:
                beside = {"processes_1": urls["processes_1"], f"ray_{count}": [url]}
                rates |= {f"ray_{count}": _rates(beside, signers, seconds)[f"ray_{count}"]}
    alone = f"one process: {rates['processes_1'][0]:,.0f}/s"
    return [row(name, rate, "adaptations/s", alone, ratio) for name, (rate, ratio) in rates.items()]


def _rates(urls: dict[str, list[str]], signers: Signers, seconds: float) -> dict[str, tuple[float, float]]:
    """Measure name -> adaptations a second, and the median over turns of its ratio to one process."""
    with ExitStack() as opened:
        pools: dict[str, list[Connection]] = {
            name: [
                connection
                for url in each
                for connection in opened.enter_context(connections(url, CONNECTIONS // len(each)))
            ]
            for name, each in urls.items()
        }
        found = []
        for _ in tqdm(range(TURNS + 1), desc="scale", unit="turn", disable=None):
            turn = {}
            for name, pool in pools.items():
                signers.sign(2 * SIGNERS)
                turn[name] = closed_loop(pool, signers, seconds / TURNS).rate
            found.append(turn)
    found = found[1:]  # the first turn fills caches
    return {
        name: (
            float(np.median([turn[name] for turn in found])),
            float(np.median([turn[name] / turn["processes_1"] for turn in found])),
        )
        for name in urls
    }


@contextmanager
def _on_ray(folder: Path, state: str, replicas: int) -> Iterator[str]:
    """Run `replicas` replicas on a Ray of this machine; yields their URL."""
    config, log = folder / "ray.toml", folder / "ray.log"
    settings = {"artifact": folder / "artifact", "key": folder / "ray.key", "state": state}
    lines = [f'{name} = "{value}"\n' for name, value in settings.items()]
    write_bytes(config, "".join([*lines, "rate_per_minute = 0\n"]).encode())
    command = [sys.executable, "-m", "experiments.ray_cloud", config, replicas]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise ProcessError(f"Ray did not start: {log.read_text(errors='replace')[-500:]}")
        yield url
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=RAY_STOP_S)  # at the end of its input it ends Ray
        stop(process)


@click.command(name="scale", context_settings={"show_default": True})
@click.option(
    "--processes",
    multiple=True,
    default=(2,),
    type=click.IntRange(2),
    help="Processes beside one alone; may be given several times.",
)
@click.option(
    "--replicas",
    multiple=True,
    type=click.IntRange(1),
    help="Replicas on Ray, too (extra `ray`); may be given several times.",
)
@click.option("--state", help="An empty one, for all: a file or a URL.  [default: a temporary SQLite file]")
@click.option("--seconds", default=10.0, type=click.FloatRange(1), help="Length of each load.")
@seed_option
@json_option
def command(
    processes: tuple[int, ...],
    replicas: tuple[int, ...],
    state: str | None,
    seconds: float,
    seed: int,
    json_file: Path | None,
) -> None:
    """Load one process of the service, several on one state, and replicas on Ray, in turns."""
    rows = bench_scale(processes, replicas, state, seconds, seed)
    tell(rows_table(rows), rows, seed, json_file)
