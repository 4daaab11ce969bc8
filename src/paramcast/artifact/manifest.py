"""What stands in a manifest: tensors, targets and the context, each value checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.trees import Tree, is_tree
from paramcast.protocol.changes import KINDS
from paramcast.protocol.limits import MAX_EFFECT_NUMBERS, MAX_TENSOR_NAME, TENSOR_NAME
from paramcast.protocol.signing import is_public_key

MODEL_FILE, CONTEXT_FILE = "model.onnx", "context.onnx"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a graph. An axis of free length is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class TargetSpec:
    """A parameter or buffer of the module that updates may change.

    Attributes:
        name: Its dotted name.
        shape: Its shape.
        input: The graph's input for it.
        kinds: What changes it, in order; see `paramcast.protocol.changes`.
    """

    name: str
    shape: tuple[int, ...]
    input: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ContextSpec:
    """How a device computes what it sends: `output` (N, F) or (N, T, F) of `graph`, then the uplink."""

    graph: str
    output: str
    dim: int
    uplink: int


@dataclass(frozen=True)
class EffectSpec:
    """Which outputs of the probe tell what an update does; see `paramcast.artifact.effect`.

    Attributes:
        positions: Among all numbers of the outputs of floating point, in the manifest's order.
        scales: The size of each: what a difference is a share of.
        tolerance: The share that engines may differ by.
    """

    positions: tuple[int, ...]
    scales: tuple[float, ...]
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {
            "positions": list(self.positions),
            "scales": list(self.scales),
            "tolerance": self.tolerance,
        }


class Fields:
    """A manifest's values, each checked."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self._path, self._manifest = path, manifest

    def refuse(self, name: str) -> None:
        """Raise for a key."""
        raise ArtifactError(f"{self._path}: {name!r} is missing or malformed; export again")

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._manifest.get(name)
        if not isinstance(value, str):
            self.refuse(name)
        return str(value)

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """Return one of the known texts."""
        if self._manifest.get(name) not in known:
            self.refuse(name)
        return self.text(name)

    def public_key(self) -> str | None:
        """Return the server's key."""
        value = self._manifest.get("public_key")
        if value is not None and not is_public_key(value):
            self.refuse("public_key")
        return value

    def labels(self) -> tuple[str, ...] | None:
        """Return the names of the classes."""
        value = self._manifest.get("labels")
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
            self.refuse("labels")
        return tuple(value)

    def tree(self, name: str) -> Tree:
        """Return a tree of names."""
        value = self._manifest.get(name)
        if value is None or not is_tree(value):
            self.refuse(name)
        return value

    def specs(self, name: str) -> tuple[TensorSpec, ...]:
        """Return tensors of a graph."""
        found = tuple(
            TensorSpec(entry["name"], entry["dtype"], tuple(entry["shape"])) for entry in self._entries(name)
        )
        for spec in found:
            if not isinstance(spec.dtype, str) or any(n is not None and not _size(n) for n in spec.shape):
                self.refuse(name)
            try:
                np.dtype(spec.dtype)
            except TypeError:
                self.refuse(name)
        return found

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return the tensors of an update."""
        entries = self._entries("parameters")
        for entry in entries:
            named = TENSOR_NAME.fullmatch(entry["name"]) and len(entry["name"]) <= MAX_TENSOR_NAME
            if not named or entry.get("dtype") != "float32" or not all(_size(n) for n in entry["shape"]):
                self.refuse("parameters")
        return {entry["name"]: tuple(entry["shape"]) for entry in entries}

    def targets(self) -> tuple[TargetSpec, ...]:
        """Return what an update changes."""
        entries = self._entries("targets")
        for entry in entries:
            kinds = entry.get("kinds")
            named = isinstance(kinds, list) and kinds and all(kind in KINDS for kind in kinds)
            if (
                not named
                or not isinstance(entry.get("input"), str)
                or not all(_size(n) for n in entry["shape"])
            ):
                self.refuse("targets")
        return tuple(TargetSpec(e["name"], tuple(e["shape"]), e["input"], tuple(e["kinds"])) for e in entries)

    def context(self) -> ContextSpec:
        """Return how the context is computed."""
        value = self._manifest.get("context")
        if not isinstance(value, dict) or value.get("graph") not in (MODEL_FILE, CONTEXT_FILE):
            self.refuse("context")
        assert isinstance(value, dict)
        sizes = value.get("dim"), value.get("uplink")
        if not isinstance(value.get("output"), str) or not all(_size(n) and n for n in sizes):
            self.refuse("context")
        return ContextSpec(value["graph"], value["output"], value["dim"], value["uplink"])

    def effect(self) -> EffectSpec | None:
        """Return what tells an update's effect; None where there is nothing, as in artifacts of old."""
        value = self._manifest.get("effect")
        if value is None:
            return None
        if not isinstance(value, dict) or not all(
            isinstance(value.get(key), list) for key in ("positions", "scales")
        ):
            self.refuse("effect")
        assert isinstance(value, dict)
        positions, scales, tolerance = value["positions"], value["scales"], value.get("tolerance")
        if (
            not 0 < len(positions) == len(scales) <= MAX_EFFECT_NUMBERS
            or not all(map(_size, positions))
            or not all(map(_positive, (*scales, tolerance)))
        ):
            self.refuse("effect")
        return EffectSpec(tuple(positions), tuple(map(float, scales)), float(tolerance))

    def _entries(self, name: str) -> list[dict[str, Any]]:
        value = self._manifest.get(name)
        sound = isinstance(value, list) and all(
            isinstance(e, dict) and isinstance(e.get("name"), str) and isinstance(e.get("shape"), list)
            for e in value
        )
        if not sound or not value or len({e["name"] for e in value}) != len(value):
            self.refuse(name)
        assert isinstance(value, list)
        return value


def _positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]


def _size(value: object) -> bool:
    return type(value) is int and value >= 0
