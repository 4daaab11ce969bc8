"""What several processes on one state do together, and replicas on Ray, beside one process alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from paramcast.bench.load import Connection, closed_loop, connections
from paramcast.bench.processes import ProcessError, cloud_service, stop
from paramcast.bench.rows import row
from paramcast.bench.service import CONNECTIONS, SIGNERS
from paramcast.bench.signers import Signers
from paramcast.bench.untrained import made_up_request, untrained_artifact, untrained_model
from paramcast.files import write_bytes

TURNS = 5
RAY_STOP_S = 60.0


def bench_scale(
    processes: Sequence[int], replicas: Sequence[int], state: str | None, seconds: float, seed: int
) -> list[dict[str, Any]]:
    """Signed adaptations a second of one process, of several together, and of replicas behind Ray's proxy.

    All are asked in turns, so that what else the machine does hits all alike. They share its cores, with the
    load generator too: more processes than cores cannot be faster.

    Args:
        processes: Numbers of processes, each number a row; requests go to all of them in turn, as a load
            balancer sends them.
        replicas: Numbers of replicas on Ray, each a row.
        state: An empty one that all share: file or URL; None: a temporary SQLite file.
        seconds: Length of each load, in all.
        seed: Of the made-up requests.

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
        for count in replicas:  # a Ray at a time: each takes half a gigabyte
            with _on_ray(folder, shared, count) as url:
                beside = {"processes_1": urls["processes_1"], f"ray_{count}": [url]}
                rates |= {f"ray_{count}": _rates(beside, signers, seconds)[f"ray_{count}"]}
    alone = f"one process: {rates['processes_1'][0]:,.0f}/s"
    return [row(name, rate, "adaptations/s", alone, ratio) for name, (rate, ratio) in rates.items()]


def _rates(urls: dict[str, list[str]], signers: Signers, seconds: float) -> dict[str, tuple[float, float]]:
    """Name -> adaptations a second, and the median over turns of its ratio to one process."""
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
    found = found[1:]  # the first one fills caches
    return {
        name: (
            float(np.median([turn[name] for turn in found])),
            float(np.median([turn[name] / turn["processes_1"] for turn in found])),
        )
        for name in urls
    }


@contextmanager
def _on_ray(folder: Path, state: str, replicas: int) -> Iterator[str]:
    """So many replicas on a Ray of this machine; gives their URL."""
    config, log = folder / "ray.toml", folder / "ray.log"
    settings = {"artifact": folder / "artifact", "key": folder / "ray.key", "state": state}
    lines = [f'{name} = "{value}"\n' for name, value in settings.items()]
    write_bytes(config, "".join([*lines, "rate_per_minute = 0\n"]).encode())
    command = [sys.executable, "-m", "paramcast.bench.ray_cloud", config, replicas]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise ProcessError(f"Ray did not start: {log.read_text(errors='replace')[-500:]}")
        yield url
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=RAY_STOP_S)  # the end of its input tells it to end Ray
        stop(process)
