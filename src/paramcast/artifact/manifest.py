"""Content of a manifest: tensors, targets and the context. Every value is checked."""

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
    """An input or output of a graph. The size of an axis of free length is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Convert to the manifest's JSON."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class TargetSpec:
    """A parameter or buffer of the module that updates may change.

    Attributes:
        name: Dotted name of the target.
        shape: Shape of the target.
        input: The graph's input for the target.
        kinds: Kinds of change of the target, in order; see `paramcast.protocol.changes`.
    """

    name: str
    shape: tuple[int, ...]
    input: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ContextSpec:
    """How a device computes the features that it sends.

    Attributes:
        graph: File of the graph that computes the features.
        output: Output of the graph with the features, (N, F) or (N, T, F).
        dim: F, the number of features before the uplink.
        uplink: Number of features after the uplink.
    """

    graph: str
    output: str
    dim: int
    uplink: int


@dataclass(frozen=True)
class EffectSpec:
    """Output values of the probe that show the effect of an update; see `paramcast.artifact.effect`.

    Attributes:
        positions: Indices among all values of the floating point outputs, in the manifest's order.
        scales: Size of the output of each value; differences are shares of it.
        tolerance: Largest difference between engines, as such a share.
    """

    positions: tuple[int, ...]
    scales: tuple[float, ...]
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """Convert to the manifest's JSON."""
        return {
            "positions": list(self.positions),
            "scales": list(self.scales),
            "tolerance": self.tolerance,
        }


class Fields:
    """Reads values of a manifest and checks them; ArtifactError if a value is missing or malformed."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self._path, self._manifest = path, manifest

    def refuse(self, name: str) -> None:
        """Raise ArtifactError for a key."""
        raise ArtifactError(f"{self._path}: {name!r} is missing or malformed; export again")

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._manifest.get(name)
        if not isinstance(value, str):
            self.refuse(name)
        return str(value)

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """Return a text that must be one of the known texts."""
        if self._manifest.get(name) not in known:
            self.refuse(name)
        return self.text(name)

    def public_key(self) -> str | None:
        """Return the server's public key; None if there is none."""
        value = self._manifest.get("public_key")
        if value is not None and not is_public_key(value):
            self.refuse("public_key")
        return value

    def labels(self) -> tuple[str, ...] | None:
        """Return the names of the classes; None if there are none."""
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
        """Return the specifications of a graph's tensors."""
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
        """Return the names and shapes of an update's tensors."""
        entries = self._entries("parameters")
        for entry in entries:
            named = TENSOR_NAME.fullmatch(entry["name"]) and len(entry["name"]) <= MAX_TENSOR_NAME
            if not named or entry.get("dtype") != "float32" or not all(_size(n) for n in entry["shape"]):
                self.refuse("parameters")
        return {entry["name"]: tuple(entry["shape"]) for entry in entries}

    def targets(self) -> tuple[TargetSpec, ...]:
        """Return the targets of an update."""
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
        """Return the specification of the context."""
        value = self._manifest.get("context")
        if not isinstance(value, dict) or value.get("graph") not in (MODEL_FILE, CONTEXT_FILE):
            self.refuse("context")
        assert isinstance(value, dict)
        sizes = value.get("dim"), value.get("uplink")
        if not isinstance(value.get("output"), str) or not all(_size(n) and n for n in sizes):
            self.refuse("context")
        return ContextSpec(value["graph"], value["output"], value["dim"], value["uplink"])

    def effect(self) -> EffectSpec | None:
        """Return the specification of the effect; None if there is none, as in older artifacts."""
        value = self._manifest.get("effect")
        if value is None:
            return None
        if not isinstance(value, dict) or not all(
            isinstance(value.get(key), list) for key in ("positions", "scales")
        ):
            self.refuse("effect")
        assert isinstance(value, dict)
        positions, scales, tolerance = value["positions"], value["scales"], value.get("tolerance", 0)
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
