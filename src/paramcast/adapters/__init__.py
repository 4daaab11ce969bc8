"""Adapters: which parameters of any `nn.Module` an update changes, and how."""

from paramcast.adapters.adapted import AdaptedModule
from paramcast.adapters.base import Adapter, Configuration
from paramcast.adapters.basis import Basis
from paramcast.adapters.checking import CheckReport
from paramcast.adapters.configs import AdapterConfig, build_adapter, config_name, dump_config, load_config
from paramcast.adapters.errors import CheckError, HugeAdapterWarning, TargetError, ValuesError
from paramcast.adapters.full import Full
from paramcast.adapters.lowrank import LowRank
from paramcast.adapters.residual import Residual
from paramcast.adapters.statistics import NormStatistics
from paramcast.adapters.targets import select_targets

__all__ = [
    "AdaptedModule",
    "Adapter",
    "AdapterConfig",
    "Basis",
    "CheckError",
    "CheckReport",
    "Configuration",
    "Full",
    "HugeAdapterWarning",
    "LowRank",
    "NormStatistics",
    "Residual",
    "TargetError",
    "ValuesError",
    "build_adapter",
    "config_name",
    "dump_config",
    "load_config",
    "select_targets",
]
