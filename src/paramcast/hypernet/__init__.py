"""Server side of CDC-MMPG: generates parameters from a context in one forward pass."""

from paramcast.hypernet.context import ContextInputs
from paramcast.hypernet.hypernetwork import Hypernetwork, HypernetworkConfig

__all__ = ["ContextInputs", "Hypernetwork", "HypernetworkConfig"]
