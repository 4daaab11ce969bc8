"""Entry point of Ray's command line: it starts the service on one machine or on a cluster.

serve run paramcast.cli.on_ray:application config=cloud.toml
serve deploy deploy/ray.yaml
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramcast.cli.common import needs
from paramcast.errors import InputError


def application(arguments: Mapping[str, str]) -> Any:
    """Return the application that `serve run` and `serve deploy` start.

    Args:
        arguments: `config` is the TOML file of settings (docs/operations.md), the same on every machine.
            Without it, PARAMCAST_... variables and defaults are used.

    Raises:
        InputError: An argument or a setting is not valid.
        MissingExtraError: Ray is not installed.
    """
    with needs("paramcast on Ray", "server"):
        from paramcast.server.on_ray import deployed, replica
        from paramcast.server.settings import Settings
    unknown = sorted(arguments.keys() - {"config"})
    if unknown:
        raise InputError(f"unknown argument {unknown[0]}; the only argument is config=FILE")
    config = Path(arguments["config"]) if "config" in arguments else None
    Settings.gather(config)  # report errors here, not in every replica

    def build() -> Any:
        return replica(config)

    return deployed(build)
