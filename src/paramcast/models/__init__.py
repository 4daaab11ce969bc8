"""The lightweight multi-modal models, and dynamic layers for any `nn.Module`."""

from paramcast.models.dynamic import Dynamic, make_dynamic

__all__ = ["Dynamic", "make_dynamic"]
