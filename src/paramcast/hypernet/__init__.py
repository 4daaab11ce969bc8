"""The cloud's side of CDC-MMPG: from a context to parameters, in one forward pass."""

from paramcast.hypernet.context import ContextInputs
from paramcast.hypernet.hypernetwork import Hypernetwork, HypernetworkConfig

__all__ = ["ContextInputs", "Hypernetwork", "HypernetworkConfig"]
