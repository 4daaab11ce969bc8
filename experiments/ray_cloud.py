"""The service on a Ray of this machine, for a test and a benchmark.

python -m experiments.ray_cloud SETTINGS.toml REPLICAS    # prints its URL when ready, ends with its input

It is a separate process, since Ray warns, forks and listens in its own way.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from paramcast.bench.load import LoadError
from paramcast.errors import MissingExtraError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_OPTIONS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default its workers have a lower priority than other processes
    "RAY_SERVE_ENABLE_HA_PROXY": "1",  # its own proxy has a quarter of HAProxy's throughput
}
LOOKS, LOOK_S, TRIES = 20, 0.1, 200


@contextmanager
def ray_cloud(build: Callable[[], ASGIApp], replicas: int) -> Iterator[str]:
    """Run `replicas` replicas of the app from `build` on a free port until the block ends; yields their URL.

    Raises:
        MissingExtraError: If Ray is not installed.
        LoadError: If it does not become ready.
    """
    os.environ |= _OPTIONS
    try:
        ray: Any = import_module("ray")
        serve: Any = import_module("ray.serve")
    except ModuleNotFoundError as error:
        raise MissingExtraError("paramcast on Ray", "ray") from error
    from paramcast.server.on_ray import deployed

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    start_ray(ray)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        # With only two cores, replicas, Ray's proxy and the clients share them.
        options = {"autoscaling_config": None, "ray_actor_options": {"num_cpus": 0.1}}
        serve.run(deployed(build, num_replicas=replicas, **options))
        _settled(url)
        yield url
    finally:
        serve.shutdown()
        ray.shutdown()


def start_ray(ray: Any, tries: int = 3) -> None:
    """Start Ray; it gives its processes 30 s, which may be too short on a busy machine, so try again."""
    try:
        ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception:
        ray.shutdown()
        if tries == 1:
            raise
        start_ray(ray, tries - 1)


def _settled(url: str) -> None:
    """Wait until a connection is kept for some checks: HAProxy restarts as replicas come."""
    for _ in range(TRIES):
        with suppress(httpx2.HTTPError), httpx2.Client() as client:
            for _ in range(LOOKS):
                client.get(f"{url}/readyz").raise_for_status()
                time.sleep(LOOK_S)
            return
        time.sleep(LOOK_S)
    raise LoadError(f"{url} was not ready for {LOOKS * LOOK_S:.0f} s in a row")


def _main(config: Path, replicas: int) -> None:
    def build() -> ASGIApp:
        from paramcast.server.on_ray import replica

        return replica(config)

    with ray_cloud(build, replicas) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
