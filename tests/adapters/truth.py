"""Reference for every run under an update: a copy of the module with changed parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paramcast.adapters import AdaptedModule, Adapter, Basis, build_adapter
from paramcast.adapters.trees import arguments


def adapted(module: nn.Module, *patterns: str, config: Any = None) -> AdaptedModule:
    """Wrap the module with an adapter of the parameters that match the patterns; no patterns mean all."""
    adapter = build_adapter(config or Basis(4), module, patterns or ["*"])
    return AdaptedModule(module, adapter)


def written(module: nn.Module, adapter: Adapter, values: Mapping[str, Tensor]) -> nn.Module:
    """Make a deep copy in evaluation mode, and write the targets that the update changes into it."""
    left = [t for part in module.modules() for t in vars(part).values() if isinstance(t, Tensor)]
    twin = copy.deepcopy(module, {id(tensor): tensor.detach() for tensor in left}).eval()
    named = dict(twin.named_parameters(remove_duplicate=False)) | dict(twin.named_buffers())
    with torch.no_grad():
        for name, tensor in adapter.changed(values).items():
            named[name].copy_(tensor)
    return twin


def run(module: nn.Module, inputs: Any) -> Any:
    args, kwargs = arguments(inputs)
    return module(*args, **kwargs)


def hooks_of(module: nn.Module) -> int:
    return sum(
        len(getattr(each, kind))
        for each in module.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    )
