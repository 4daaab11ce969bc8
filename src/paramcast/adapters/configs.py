"""Configurations of adapters: build an adapter from one, and convert one to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from paramcast.adapters.base import Adapter, Composite, Configuration, check_names, warn_if_huge
from paramcast.adapters.basis import Basis
from paramcast.adapters.errors import TargetError
from paramcast.adapters.full import Full
from paramcast.adapters.lowrank import LowRank
from paramcast.adapters.residual import Residual
from paramcast.adapters.statistics import NormStatistics
from paramcast.adapters.targets import select
from paramcast.errors import InputError

AdapterConfig = Configuration | Sequence[Configuration]
"""One configuration, or several configurations for several adapters at once."""

CONFIGS: dict[str, type[Configuration]] = {
    "basis": Basis,
    "lowrank": LowRank,
    "residual": Residual,
    "full": Full,
    "statistics": NormStatistics,
}
"""Name of an adapter -> its configuration."""


def build_adapter(config: AdapterConfig, module: nn.Module, target_modules: Sequence[str]) -> Adapter:
    """Build an adapter for the targets that the patterns select from a module.

    Args:
        config: One configuration, or several.
        module: Any module; it is not changed.
        target_modules: Patterns; see `select_targets`.

    Raises:
        TargetError: The patterns do not fit the module, or the adapter cannot change the targets.
        InputError: There is no configuration, an unknown configuration, or a rank below 1.
    """
    configs = _listed(config)
    selection = select(module, target_modules)
    for each in configs:
        if getattr(each, "rank", 1) < 1:
            raise InputError(f"{each}: rank must be at least 1")
    parts = [each.make(selection) for each in configs]
    adapter = parts[0] if len(parts) == 1 else Composite(parts)
    if not adapter.shapes:
        raise TargetError("the update would have no tensors")
    check_names(adapter)
    warn_if_huge(adapter)
    return adapter


def config_name(config: AdapterConfig) -> str:
    """Return the name of a configuration's adapter, such as 'basis' or 'basis+statistics'."""
    names = {kind: name for name, kind in CONFIGS.items()}
    return "+".join(names[type(each)] for each in _listed(config))


def dump_config(config: AdapterConfig) -> list[dict[str, Any]]:
    """Convert a configuration to JSON types; `load_config` reads them."""
    return [
        {"name": config_name(each), **asdict(each)}  # type: ignore[call-overload]
        for each in _listed(config)
    ]


def load_config(stored: Sequence[Mapping[str, Any]]) -> AdapterConfig:
    """Read the result of `dump_config`.

    Raises:
        InputError: The adapter or an option is unknown.
    """
    configs = []
    for each in stored:
        options = dict(each)
        name = options.pop("name", None)
        if name not in CONFIGS:
            raise InputError(f"no adapter is called {name!r}; there are: {', '.join(CONFIGS)}")
        try:
            configs.append(CONFIGS[name](**options))
        except TypeError as error:
            raise InputError(f"adapter {name!r} has no such option: {', '.join(options)}") from error
    return configs[0] if len(configs) == 1 else tuple(configs)


def _listed(config: AdapterConfig) -> list[Configuration]:
    configs = list(config) if isinstance(config, Sequence) else [config]
    for each in configs:
        if type(each) not in CONFIGS.values():
            known = ", ".join(f"{kind.__name__}()" for kind in CONFIGS.values())
            raise InputError(f"adapter must be one of {known}, or several of them; not {each!r}")
    if not configs:
        raise InputError("adapter must be a configuration such as Basis(rank=64); the list is empty")
    return configs
