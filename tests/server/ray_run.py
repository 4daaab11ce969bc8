"""Starts a real Ray with two replicas of the service, kills one under load, and prints the devices' results.

    python ray_run.py FOLDER

It runs in a separate process, because Ray emits warnings, forks and opens ports.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

HELPERS = str(Path(__file__).parents[1] / "device")
sys.path[:0] = [HELPERS, str(Path(__file__).parents[2])]  # and the repository, for `experiments`
os.environ["PYTHONPATH"] = HELPERS  # for Ray's workers
DEVICES, REPLICAS, PATIENCE_S = 4, 2, 120.0


def service(folder: str) -> Any:
    """Return the function by which each replica builds the service: a tiny generator and a shared state."""

    def build() -> Any:
        from backends import TinyBackend

        from paramcast.protocol import load_or_make_key
        from paramcast.server import Database, create_app

        key = load_or_make_key(f"{folder}/cloud.key")
        return create_app(TinyBackend(), key, database=Database.open(f"{folder}/cloud.db"))

    return build


def replicas() -> set[int]:
    """Return the process ids of the replicas of this Ray."""
    found = psutil.Process().children(recursive=True)
    return {one.pid for one in found if one.is_running() and one.name().startswith("ray::ServeRepl")}


def wait_for(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def main(folder: str) -> None:
    from experiments.ray_cloud import ray_cloud
    from paramcast.server import Database

    Database.open(f"{folder}/cloud.db").close()
    with ray_cloud(service(folder), REPLICAS) as url:
        seen = told(folder, url)
    print(json.dumps(seen))  # Ray's messages at its end come before this line


def told(folder: str, url: str) -> dict[str, Any]:
    """Kill a replica under load; return the devices' sequence numbers and errors, and counts of replicas."""
    import numpy as np
    from bundles import IMAGE_UP, MODEL, TEXT_UP, parameter_shapes

    from paramcast.device import CloudClient
    from paramcast.protocol import AdaptRequest, load_or_make_key, open_package, public_key_hex

    key = public_key_hex(load_or_make_key(f"{folder}/cloud.key"))
    seen: dict[str, list[int]] = {f"cam-{place}": [] for place in range(DEVICES)}
    enough, errors = threading.Event(), list[str]()

    def ask(device: str) -> None:
        rules: dict[str, Any] = {"expected": parameter_shapes("full"), "after": 0, "now": 0}
        queries = np.ones((2, TEXT_UP), "f4")
        request = AdaptRequest(device, MODEL, 0, np.ones((2, IMAGE_UP), "f4"), queries, np.arange(2))
        try:
            with CloudClient(url) as client:
                while not enough.is_set():
                    data = client.exchange(request)
                    seen[device].append(open_package(data, key, device=device, model=MODEL, **rules).sequence)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    def all_have(count: int) -> bool:
        return bool(errors) or min(map(len, seen.values())) >= count

    before = replicas()
    threads = [threading.Thread(target=ask, args=(device,)) for device in seen]
    for thread in threads:
        thread.start()
    wait_for(lambda: all_have(10))
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    after_kill = min(map(len, seen.values()))
    wait_for(lambda: all_have(after_kill + 10))
    wait_for(lambda: errors or (len(replicas()) == REPLICAS and killed not in replicas()))
    enough.set()
    for thread in threads:
        thread.join()
    return {"before": len(before), "new": len(replicas() - before), "errors": errors, "seen": seen}


if __name__ == "__main__":
    main(sys.argv[1])
