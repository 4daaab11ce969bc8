"""A request on its way through the service, and what a device gets."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from paramcast.protocol import AdaptRequest
from paramcast.server.request_guard import Claim
from paramcast.server.serving import Served


@dataclass(frozen=True, eq=False)
class Asked:
    """A request on its way through the service.

    Attributes:
        request: What the device asks.
        served: The model that answers it.
        claim: Who it says it is from; None for the service's own health checks, which leave no trace.
        context: 32 hex digits that tell what parameters are made from, but not what it is.
        unless: The tag of the package that the device has: none is made if it would be the same again.
        origin: What was traced when it was read.
        received: When it was read (`time.perf_counter`).
        size: Bytes that it had.
    """

    request: AdaptRequest
    served: Served
    claim: Claim | None
    context: str = ""
    unless: str | None = None
    origin: object = None
    received: float = field(default_factory=time.perf_counter)
    size: int = 0

    @property
    def made_of(self) -> str:
        """What a package is made of: the same context and model give the same parameters."""
        return f"{self.context}-{self.served.backend.model[:16]}-{self.served.number or 0}"


@dataclass(frozen=True)
class Answer:
    """What a device gets: a sealed package, or None where it has the same already; and the package's tag."""

    data: bytes | None
    tag: str


def context_tag(data: bytes, request: AdaptRequest, secret: bytes) -> str:
    """Hash a request's device and tensors as they travelled: what stands behind the header.

    It is keyed: who sees it in an `etag`, or in the state, cannot tell what was asked by guessing it, nor
    that two devices asked the same.
    """
    tensors = memoryview(data)[8 + int.from_bytes(data[:8], "little") :]
    head = f"{request.device}\n{request.anchors.shape}{request.queries.shape}".encode()
    digest = hashlib.blake2b(head, digest_size=16, key=secret)
    digest.update(tensors)
    return digest.hexdigest()
