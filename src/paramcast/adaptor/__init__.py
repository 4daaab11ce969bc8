"""The cloud's side of CDC-MMPG: from a context to parameters, in one forward pass."""

from paramcast.adaptor.adaptor import Adaptor, AdaptorConfig
from paramcast.adaptor.context import ContextInputs

__all__ = ["Adaptor", "AdaptorConfig", "ContextInputs"]
