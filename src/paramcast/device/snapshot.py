"""Parameters that a device runs at a given time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from paramcast.device.inputs import Parameters
from paramcast.protocol import Package


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Parameters in use.

    Attributes:
        parameters: Tensors of the package by name, read-only float32 arrays.
        feed: Inputs of the model's graphs for these parameters.
        source: The base model, a package that came from the cloud since the start, or one from the store.
        sequence, expires: Number of the package and its end (unix seconds); 0 and None for the base.
        why: Sentence that says why these parameters run.
        graphs: The model with these parameters as constants, after baking; else None.
        version, issued: Model version and issue time of the package, if it names them. A notice recalls
            packages by these.
    """

    parameters: Parameters
    feed: Parameters
    source: Literal["base", "cloud", "store"]
    sequence: int
    expires: int | None
    why: str
    graphs: Any = None
    version: int | None = None
    issued: int | None = None

    @classmethod
    def of(cls, package: Package, feed: Parameters, source: Literal["cloud", "store"], why: str) -> Snapshot:
        """Make a snapshot of a package's parameters; this makes the package's arrays read-only."""
        for values in (*package.tensors.values(), *feed.values()):
            values.flags.writeable = False
        return cls(
            parameters=package.tensors,
            feed=feed,
            source=source,
            sequence=package.sequence,
            expires=package.expires,
            why=why,
            version=package.version,
            issued=package.issued,
        )
