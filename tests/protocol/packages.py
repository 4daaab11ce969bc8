"""An update, and a device that opens it, for tests of refused updates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from paramcast.protocol import Package, make_key, open_package, public_key_hex

KEY, OTHER_KEY = make_key(), make_key()
MODEL, OTHER_MODEL = "a" * 64, "b" * 64
NOW = 1_000_000
SHAPES = {"layer.weight": (4, 6), "layer.bias": (4,)}
HEAD = {"d": "cam-1", "m": MODEL, "s": "5", "e": str(NOW + 60), "f": "full", "q": "int8"}


def package(**changes: Any) -> Package:
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype("f4") for name, shape in SHAPES.items()}
    made = Package("cam-1", MODEL, 5, NOW + 60, "full", "int8", tensors)
    return dataclasses.replace(made, **changes)


def opened(data: bytes, **changes: Any) -> Package:
    rules: dict[str, Any] = {
        "device": "cam-1",
        "model": MODEL,
        "after": 4,
        "now": float(NOW),
        "expected": SHAPES,
    }
    return open_package(data, public_key_hex(KEY), **(rules | changes))
