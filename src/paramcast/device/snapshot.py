"""The parameters that a device runs at a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from paramcast.device.inputs import Parameters
from paramcast.protocol import Package


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parameters in use.

    Attributes:
        parameters: Read-only float32 arrays by name: the tensors of the package.
        feed: What the model's graphs are fed for them.
        source: The base model, a package that has just come from the cloud, or one from the store.
        sequence, expires: The package's (unix seconds); base: 0, None.
        why: Why these and no others, in a sentence.
        graphs: The model with these parameters as constants, once they have been baked.
        version, issued: The package's, where it says them: what a notice calls back.
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
        """The parameters of a package; its arrays are read-only from now on."""
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
