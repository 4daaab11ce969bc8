"""The service on a Ray of this machine, for a test and a benchmark.

python -m paramcast.bench.ray_cloud SETTINGS.toml REPLICAS PORT    # says "ready", and ends with its input

A process of its own: Ray warns, forks and listens on its own terms.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from paramcast.errors import MissingExtraError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_OPTIONS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # its workers would give way to all else that runs
    "RAY_SERVE_ENABLE_HA_PROXY": "1",  # its own proxy does a quarter of what HAProxy does
}
QUIET_S, LOOK_S = 2.0, 0.1


@contextmanager
def ray_cloud(build: Callable[[], ASGIApp], replicas: int, port: int) -> Iterator[None]:
    """So many replicas of what `build` gives, at http://127.0.0.1:PORT until the block ends.

    Raises:
        MissingExtraError: If Ray is not installed.
    """
    os.environ |= _OPTIONS
    try:
        ray: Any = import_module("ray")
        serve: Any = import_module("ray.serve")
    except ModuleNotFoundError as error:
        raise MissingExtraError("paramcast on Ray", "ray") from error
    from paramcast.cloud.on_ray import deployed

    _start(ray, tries=3)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        # Where there are two cores only, replicas, Ray's proxy and who asks share them.
        options = {"autoscaling_config": None, "ray_actor_options": {"num_cpus": 0.1}}
        serve.run(deployed(build, num_replicas=replicas, **options))
        _settled(f"http://127.0.0.1:{port}")
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


def _start(ray: Any, tries: int) -> None:
    """Ray gives its own processes 30 s to start, which on a busy machine may be too little."""
    try:
        ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception:
        ray.shutdown()
        if tries == 1:
            raise
        _start(ray, tries - 1)


def _settled(url: str) -> None:
    """Wait until connections are kept: HAProxy is started anew as replicas come, which closes them."""
    quiet = 0.0
    while quiet < QUIET_S:
        begin = time.monotonic()
        with suppress(httpx2.HTTPError), httpx2.Client(timeout=QUIET_S) as client:
            while client.get(f"{url}/readyz").status_code == httpx2.codes.OK and quiet < QUIET_S:
                time.sleep(LOOK_S)
                quiet = time.monotonic() - begin
        if quiet < QUIET_S:
            quiet = 0.0
            time.sleep(LOOK_S)


def _main(config: Path, replicas: int, port: int) -> None:
    def build() -> ASGIApp:
        from paramcast.cloud.on_ray import replica
        from paramcast.training.serving import load_backend

        return replica(config, load_backend)

    with ray_cloud(build, replicas, port):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
