"""Adapters: what an update changes of any `nn.Module`, and how."""

from paramcast.adapters.dynamic import Dynamic, make_dynamic

__all__ = ["Dynamic", "make_dynamic"]
