"""What Ray's own command line starts: the service on one machine, or on a cluster.

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
    """The application that `serve run` and `serve deploy` start.

    Args:
        arguments: `config`: the TOML file of settings (docs/operations.md), the same on every machine;
            without it, PARAMCAST_... variables and defaults.

    Raises:
        InputError: If an argument or a setting is not possible.
        MissingExtraError: If Ray is not installed.
    """
    with needs("paramcast on Ray", "server"):
        from paramcast.server.on_ray import deployed, replica
        from paramcast.server.settings import Settings
    unknown = sorted(arguments.keys() - {"config"})
    if unknown:
        raise InputError(f"unknown argument {unknown[0]}; there is only config=FILE")
    config = Path(arguments["config"]) if "config" in arguments else None
    Settings.gather(config)  # what is wrong with them is said here, not by every replica

    def build() -> Any:
        return replica(config)

    return deployed(build)
