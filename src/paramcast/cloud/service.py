"""What the cloud does with a request, apart from HTTP."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
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
        self._shapes = {name: tuple(shape) for name, shape in backend.parameters.items()}
        self._key = key
        self._lifetime_s = lifetime_s
        self._quantisation = quantisation
        self._clock = clock
        self._working = threading.Lock()
        self._issued: OrderedDict[str, int] = OrderedDict()

    def adapt(self, data: bytes) -> bytes:
        """Turn an encoded request into a sealed package.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
            BackendError: If the model fails.
        """
        (outcome,) = self.answer([self.read(data)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def read(self, data: bytes) -> AdaptRequest:
        """Decode a request, and see that the model here can serve it.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
        """
        request = AdaptRequest.decode(data)
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
        return request

    def answer(self, requests: Sequence[AdaptRequest]) -> list[bytes | Exception]:
        """A sealed package for each request, or why it has none: a BackendError or a MessageError."""
        with self._working:
            return [
                tensors if isinstance(tensors, Exception) else self._sealed(request, tensors)
                for request, tensors in zip(requests, self._generate(list(requests)), strict=True)
            ]

    def health_request(self) -> AdaptRequest:
        """A made-up request of one clip and one query: if it is answered, so are a device's."""
        image_dim, text_dim = self.backend.uplink_dims
        return AdaptRequest(
            device="healthz",
            model=self.backend.model,
            sequence=0,
            anchors=np.full((1, image_dim), 0.1, np.float32),
            queries=np.full((1, text_dim), 0.1, np.float32),
            clip_of_query=np.zeros(1, np.int64),
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

    def _generate(self, requests: list[AdaptRequest]) -> list[dict[str, Float32] | Exception]:
        """The tensors for each request, checked, or what was wrong with them."""
        try:
            made = self.backend.generate(requests)
            if len(made) != len(requests):
                raise BackendError(f"the model answered {len(made)} of {len(requests)} requests")
        except Exception as error:  # whatever a model may raise is one thing to the caller: it failed
            if len(requests) == 1:
                return [_failure("the model failed", error)]
            # One by one, so that a request which the model cannot take does not fail its neighbours.
            return [outcome for request in requests for outcome in self._generate([request])]
        return [self._checked(tensors) for tensors in made]

    def _checked(self, tensors: dict[str, Float32]) -> dict[str, Float32] | Exception:
        """The tensors if they are complete, of the right shapes, float32 and finite."""
        shapes = {name: tuple(values.shape) for name, values in tensors.items()}
        if shapes != self._shapes:
            return BackendError(f"the model made {shapes}, it promised {self._shapes}")
        if not all(values.dtype == np.float32 and np.isfinite(values).all() for values in tensors.values()):
            return BackendError("the model made parameters that are not finite float32 numbers")
        return tensors

    def _sealed(self, request: AdaptRequest, tensors: dict[str, Float32]) -> bytes | Exception:
        try:
            package = Package(
                device=request.device,
                model=self.backend.model,
                sequence=self._next_sequence(request),
                expires=int(self._clock()) + self._lifetime_s,
                form=self.backend.form,
                quantisation=self._quantisation,
                tensors=tensors,
            )
            return seal(package, self._key)
        except MessageError as error:
            return error
        except PackageError as error:
            return _failure("the model made parameters that cannot be sent", error)

    def _next_sequence(self, request: AdaptRequest) -> int:
        """A number above all that the device has run and, unless it was forgotten, all that it was given."""
        sequence = max(request.sequence, self._issued.pop(request.device, 0)) + 1
        if sequence > MAX_SEQUENCE:
            raise MessageError("the device's sequence numbers are used up; give it a new id")
        self._issued[request.device] = sequence
        if len(self._issued) > KNOWN_DEVICES:
            self._issued.popitem(last=False)
        return sequence


def _failure(what: str, cause: Exception) -> BackendError:
    """A BackendError that is returned, not raised: with its cause all the same, for the log."""
    error = BackendError(f"{what}: {cause}")
    error.__cause__ = cause
    return error
