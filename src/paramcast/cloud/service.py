"""What the cloud does with a request, apart from HTTP."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from paramcast.errors import InputError, ParamcastError
from paramcast.wire import (
    AdaptRequest,
    MessageError,
    Package,
    PackageError,
    SigningKey,
    public_key_hex,
    seal,
)
from paramcast.wire.limits import MAX_SEQUENCE
from paramcast.wire.quantise import QUANTISATIONS, Float32

KNOWN_DEVICES = 100_000  # about 20 MB; a forgotten device still gets a higher number than it reports


class AdaptBackend(Protocol):
    """What the service needs of a model. `generate` is never called by two threads at once.

    Attributes:
        model: sha256 of the base model, 64 lower-case hex digits.
        form: The generator form.
        task: `qa`, `choice` or `retrieval`.
        parameters: The shape of every tensor that `generate` makes, by name.
        uplink_dims: Columns of a request's anchors and of its queries.
    """

    model: str
    form: str
    task: str
    parameters: Mapping[str, tuple[int, ...]]
    uplink_dims: tuple[int, int]

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        """One table of float32 tensors for each request, in order; a request may have no queries."""
        ...


class WrongModelError(InputError):
    """The device runs another base model than this service adapts."""


class BackendError(ParamcastError):
    """The model failed or gave parameters that may not be sent."""


class AdaptService:
    """Checks requests, has parameters made, numbers and signs them. Safe to call from several threads."""

    def __init__(
        self,
        backend: AdaptBackend,
        key: SigningKey,
        *,
        lifetime_s: int,
        quantisation: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Serve `backend`; packages are signed by `key` and expire `lifetime_s` seconds after `clock`.

        Raises:
            InputError: If the lifetime is not positive or the quantisation is unknown.
        """
        if lifetime_s <= 0:
            raise InputError("the lifetime of a package must be more than 0 seconds")
        if quantisation not in QUANTISATIONS:
            raise InputError(f"the quantisation must be one of {', '.join(QUANTISATIONS)}")
        self.backend = backend
        self._key = key
        self._lifetime_s = lifetime_s
        self._quantisation = quantisation
        self._clock = clock
        self._generating = threading.Lock()
        self._numbering = threading.Lock()
        self._issued: OrderedDict[str, int] = OrderedDict()

    def adapt(self, data: bytes) -> bytes:
        """Turn an encoded request into a sealed package.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
            BackendError: If the model fails.
        """
        request = AdaptRequest.decode(data)
        self._check(request)
        tensors = self._generate(request)
        package = Package(
            device=request.device,
            model=self.backend.model,
            sequence=self._next_sequence(request),
            expires=int(self._clock()) + self._lifetime_s,
            form=self.backend.form,
            quantisation=self._quantisation,
            tensors=tensors,
        )
        try:
            return seal(package, self._key)
        except PackageError as error:
            raise BackendError(f"the model made parameters that cannot be sent: {error}") from error

    def check_health(self) -> None:
        """Run the real generate path on a made-up context of one clip and one query.

        Raises:
            BackendError: If the model fails or its parameters are not complete and finite.
        """
        image_dim, text_dim = self.backend.uplink_dims
        self._generate(
            AdaptRequest(
                device="healthz",
                model=self.backend.model,
                sequence=0,
                anchors=np.full((1, image_dim), 0.1, np.float32),
                queries=np.full((1, text_dim), 0.1, np.float32),
                clip_of_query=np.zeros(1, np.int64),
            )
        )

    def describe(self) -> dict[str, Any]:
        """What `/v1/model` tells."""
        return {
            "model": self.backend.model,
            "form": self.backend.form,
            "task": self.backend.task,
            "parameters": {name: list(shape) for name, shape in self.backend.parameters.items()},
            "uplink_dims": list(self.backend.uplink_dims),
            "quantisation": self._quantisation,
            "lifetime_s": self._lifetime_s,
            "public_key": public_key_hex(self._key),
        }

    def _check(self, request: AdaptRequest) -> None:
        if request.model != self.backend.model:
            raise WrongModelError(
                f"the device runs base model {request.model}, this service adapts {self.backend.model}; "
                "install the bundle that was exported with the model served here"
            )
        dims = (request.anchors.shape[1], request.queries.shape[1])
        if dims != tuple(self.backend.uplink_dims):
            raise MessageError(
                f"anchors and queries have {dims} columns, the model needs {self.backend.uplink_dims}"
            )

    def _generate(self, request: AdaptRequest) -> dict[str, Float32]:
        """The tensors for one request: complete, of the right shapes, float32 and finite."""
        try:
            with self._generating:
                (tensors,) = self.backend.generate([request])
        except Exception as error:  # whatever a model may raise is one thing to the caller: it failed
            raise BackendError(f"the model failed: {error!r}") from error
        shapes = {name: tuple(values.shape) for name, values in tensors.items()}
        if shapes != {name: tuple(shape) for name, shape in self.backend.parameters.items()}:
            raise BackendError(f"the model made {shapes}, it promised {self.backend.parameters}")
        if not all(values.dtype == np.float32 and np.isfinite(values).all() for values in tensors.values()):
            raise BackendError("the model made parameters that are not finite float32 numbers")
        return tensors

    def _next_sequence(self, request: AdaptRequest) -> int:
        """A number above all that the device has run and, unless it was forgotten, all that it was given."""
        with self._numbering:
            sequence = max(request.sequence, self._issued.pop(request.device, 0)) + 1
            if sequence > MAX_SEQUENCE:
                raise MessageError("the device's sequence numbers are used up; give it a new id")
            self._issued[request.device] = sequence
            if len(self._issued) > KNOWN_DEVICES:
                self._issued.popitem(last=False)
        return sequence
