"""Adaptation methods, one folder each; a name is imported with its dependencies when it is first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "CMDAOT": "paramcast.methods.cmda_ot",
    "M3BATClassifier": "paramcast.methods.m3bat",
    "M3BATRegressor": "paramcast.methods.m3bat",
    "MultiModalAdapter": "paramcast.methods.mm_adapter",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
