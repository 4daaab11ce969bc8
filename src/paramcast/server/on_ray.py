"""The service as a deployment of Ray Serve (extra `ray`), if one process is not enough.

Every replica is the whole service of `paramcast serve`, with the same routes, batches and published models.
The replicas share the state, which must be PostgreSQL if there is more than one machine. They need the key
and the store of models at the places that the settings name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paramcast.errors import MissingExtraError
from paramcast.server.launch import launched
from paramcast.server.logs import set_up_logs
from paramcast.server.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NAME = "cloud"
"""Name of the deployment; `deploy/ray.yaml` may set other options under this name."""

_OPTIONS: dict[str, Any] = {
    # Waiting requests are a replica's next batch; with Ray's default of 5 the batches would be too small.
    "max_ongoing_requests": 256,
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 32},
    "ray_actor_options": {"num_cpus": 1},
    "health_check_period_s": 5,
}
_kept = ExitStack()
"""The replica's service, which is closed when the process ends."""


def deployed(build: Callable[[], ASGIApp], **options: Any) -> Any:
    """Make the deployment; each replica serves the application that `build` makes there.

    Raises:
        MissingExtraError: If Ray is not installed.
    """
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise MissingExtraError("paramcast on Ray", "ray") from error
    deployment: Any = serve.deployment(name=NAME, **_OPTIONS | options)(serve.ingress(build)())
    return deployment.bind()


def replica(config: Path | None) -> ASGIApp:
    """Make the application of a replica, which serves until its process ends.

    Args:
        config: TOML file of settings; None: only variables and defaults.
    """
    settings = Settings.gather(config)
    set_up_logs(settings.log_format, settings.log_level)
    return _kept.enter_context(launched(settings)).app
