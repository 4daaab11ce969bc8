"""The service as a deployment of Ray Serve (extra `ray`), for when one process is not enough.

Every replica is the whole service of `paramcast serve`: same routes, batches and published models. They share
the state, which has to be PostgreSQL once there is more than one machine, and need the key and the store of
models at the places that the settings name.
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
"""Of the deployment: under it, `deploy/ray.yaml` may set other options."""

_OPTIONS: dict[str, Any] = {
    # Those that are not yet worked on are a replica's next batch; Ray's own default of 5 would starve it.
    "max_ongoing_requests": 256,
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 32},
    "ray_actor_options": {"num_cpus": 1},
    "health_check_period_s": 5,
}
_kept = ExitStack()
"""What a replica has opened: it is closed with its process."""


def deployed(build: Callable[[], ASGIApp], **options: Any) -> Any:
    """The deployment whose replicas each serve what `build` gives them there.

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
    """What a replica serves, until its process ends.

    Args:
        config: TOML file of settings; None: variables and defaults.
    """
    settings = Settings.gather(config)
    set_up_logs(settings.log_format, settings.log_level)
    return _kept.enter_context(launched(settings)).app
