"""A request in the service, and its answer."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from paramcast.protocol import AdaptRequest
from paramcast.server.request_guard import Claim
from paramcast.server.serving import Served


@dataclass(frozen=True, eq=False)
class Asked:
    """A request in the service.

    Attributes:
        request: The decoded request.
        served: The model that answers it.
        claim: The claimed sender; None for the service's health checks, which are not recorded.
        context: 32 hex digits that identify the request's features, but do not reveal them.
        unless: The tag of the update that the device has; no update is made if it would be the same.
        origin: Context of the span in which the request was read.
        received: Time at which it was read (`time.perf_counter`).
        size: Number of bytes of the request.
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
        """Identifier of the update's parameters: the same context and model give the same parameters."""
        return f"{self.context}-{self.served.backend.model[:16]}-{self.served.number or 0}"


@dataclass(frozen=True)
class Answer:
    """Answer to a device: a signed update (None if the device has the same one already), and its tag."""

    data: bytes | None
    tag: str


def context_tag(data: bytes, request: AdaptRequest, secret: bytes) -> str:
    """Hash a request's device and the bytes of its tensors, which follow the header.

    The hash is keyed. A reader of an `etag` or of the state cannot check a guess of the features with it, and
    cannot see that two devices sent the same features.
    """
    tensors = memoryview(data)[8 + int.from_bytes(data[:8], "little") :]
    head = f"{request.device}\n{request.anchors.shape}{request.queries.shape}".encode()
    digest = hashlib.blake2b(head, digest_size=16, key=secret)
    digest.update(tensors)
    return digest.hexdigest()
