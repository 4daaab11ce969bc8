"""What the cloud does with requests, apart from HTTP: makes parameters, numbers, signs and records them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paramcast.cloud.models import AdaptBackend, Models, Served
from paramcast.cloud.state import Database, StateError
from paramcast.cloud.state.ledger import Issued, record, take_sequences
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

Made = dict[str, Float32] | Exception


class BackendError(ParamcastError):
    """The model failed or gave parameters that may not be sent."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A request on its way through the service.

    Attributes:
        request: What the device asks.
        served: The model that answers it.
        recorded: Whether the device is numbered and what it gets is kept; not so for health checks.
        received: When it was read (`time.perf_counter`).
    """

    request: AdaptRequest
    served: Served
    recorded: bool = True
    received: float = field(default_factory=time.perf_counter)

    def context(self) -> str:
        """32 hex digits that tell what parameters are made from, but not what it is."""
        digest = hashlib.blake2b(digest_size=16)
        for rows in (self.request.anchors, self.request.queries, self.request.clip_of_query):
            digest.update(f"{rows.shape}".encode() + rows.tobytes())
        return digest.hexdigest()


class AdaptService:
    """Checks requests, has parameters made, numbers and signs them. Safe to call from several threads."""

    def __init__(
        self,
        models: Models | AdaptBackend,
        key: SigningKey,
        *,
        lifetime_s: int,
        quantisation: str,
        database: Database | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Serve `models`; packages are signed by `key` and expire `lifetime_s` seconds after `clock`.

        Without a `database` the service forgets its devices with the process.

        Raises:
            InputError: If the lifetime is not positive or the quantisation is unknown.
        """
        if lifetime_s <= 0:
            raise InputError("the lifetime of a package must be more than 0 seconds")
        if quantisation not in QUANTISATIONS:
            raise InputError(f"the quantisation must be one of {', '.join(QUANTISATIONS)}")
        self.models = models if isinstance(models, Models) else Models([Served(models)])
        self.database = database or Database.temporary()
        self._key = key
        self._lifetime_s = lifetime_s
        self._quantisation = quantisation
        self._clock = clock
        self._working = threading.Lock()

    def adapt(self, data: bytes) -> bytes:
        """Turn an encoded request into a sealed package.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
            BackendError: If the model fails.
            StateError: If the state cannot be written.
        """
        (outcome,) = self.answer([self.read(data)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def read(self, data: bytes) -> Asked:
        """Decode a request, and see that a model here can serve it.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
        """
        request = AdaptRequest.decode(data)
        served = self.models.pick(request.model, request.device)
        dims = (request.anchors.shape[1], request.queries.shape[1])
        if dims != tuple(served.backend.uplink_dims):
            raise MessageError(
                f"anchors and queries have {dims} columns, the model needs {served.backend.uplink_dims}"
            )
        if request.sequence >= MAX_SEQUENCE:
            raise MessageError("the device's sequence numbers are used up; give it a new id")
        return Asked(request, served)

    def answer(self, asked: Sequence[Asked]) -> list[bytes | Exception]:
        """A sealed package for each request, or why it has none.

        That is a BackendError or a MessageError of its own, or the StateError of all: numbers are in the
        state before a package that carries one leaves.
        """
        with self._working:
            made = self._generate_all(asked)
            try:
                with self.database.writing() as connection:
                    return self._issue(connection, asked, made)
            except StateError as error:
                return [outcome if isinstance(outcome, Exception) else error for outcome in made]

    def probes(self) -> list[Asked]:
        """A made-up request of one clip and one query for each model: if it is answered, so are devices'."""
        return [Asked(_probe(served.backend), served, recorded=False) for served in self.models.serving]

    def describe(self, model: str | None = None) -> dict[str, Any]:
        """What `/v1/model` tells of `model`, or of another one where it is not served.

        Raises:
            InputError: If nothing is served yet.
        """
        backend = self.models.described(model)
        if backend is None:
            raise InputError("no model is in service yet; run: paramcast model publish FOLDER")
        return {
            "model": backend.model,
            "form": backend.form,
            "task": backend.task,
            "parameters": {name: list(shape) for name, shape in backend.parameters.items()},
            "uplink_dims": list(backend.uplink_dims),
            "quantisation": self._quantisation,
            "lifetime_s": self._lifetime_s,
            "public_key": public_key_hex(self._key),
        }

    def _generate_all(self, asked: Sequence[Asked]) -> list[Made]:
        """What each model makes of its requests, in the order of `asked`."""
        places: dict[int, list[int]] = {}
        for place, one in enumerate(asked):
            places.setdefault(id(one.served), []).append(place)
        made: list[Made] = [BackendError("not generated")] * len(asked)
        for mine in places.values():
            outcomes = _generate(asked[mine[0]].served.backend, [asked[place].request for place in mine])
            for place, outcome in zip(mine, outcomes, strict=True):
                made[place] = outcome
        return made

    def _issue(
        self, connection: Any, asked: Sequence[Asked], made: Sequence[Made]
    ) -> list[bytes | Exception]:
        """Number and seal what was made, and record it, in the caller's transaction."""
        now = self._clock()
        numbered = [
            place
            for place, outcome in enumerate(made)
            if asked[place].recorded and not isinstance(outcome, Exception)
        ]
        reported = [(asked[place].request.device, asked[place].request.sequence) for place in numbered]
        sequences = dict(zip(numbered, take_sequences(connection, reported, int(1000 * now)), strict=True))
        outcomes = [
            tensors
            if isinstance(tensors, Exception)
            else self._sealed(one, tensors, sequences.get(place, 1), int(now) + self._lifetime_s)
            for place, (one, tensors) in enumerate(zip(asked, made, strict=True))
        ]
        record(
            connection,
            [
                self._issued(asked[place], sequences[place], len(sealed), now)
                for place in numbered
                if isinstance(sealed := outcomes[place], bytes)
            ],
        )
        return outcomes

    def _sealed(
        self, asked: Asked, tensors: dict[str, Float32], sequence: int, expires: int
    ) -> bytes | Exception:
        backend = asked.served.backend
        try:
            package = Package(
                device=asked.request.device,
                model=backend.model,
                sequence=sequence,
                expires=expires,
                form=backend.form,
                quantisation=self._quantisation,
                tensors=tensors,
            )
            return seal(package, self._key)
        except PackageError as error:
            return _failure("the model made parameters that cannot be sent", error)

    def _issued(self, asked: Asked, sequence: int, size: int, now: float) -> Issued:
        request, backend = asked.request, asked.served.backend
        return Issued(
            device=request.device,
            sequence=sequence,
            model=backend.model,
            version=asked.served.number,
            form=backend.form,
            context=asked.context(),
            clips=len(request.anchors),
            queries=len(request.queries),
            bytes=size,
            latency_us=int(1e6 * (time.perf_counter() - asked.received)),
            issued_at=int(1000 * now),
            expires_at=1000 * (int(now) + self._lifetime_s),
        )


def _generate(backend: AdaptBackend, requests: list[AdaptRequest]) -> list[Made]:
    """The tensors for each request, checked, or what was wrong with them."""
    try:
        made = backend.generate(requests)
        if len(made) != len(requests):
            raise BackendError(f"the model answered {len(made)} of {len(requests)} requests")
    except Exception as error:  # whatever a model may raise is one thing to the caller: it failed
        if len(requests) == 1:
            return [_failure("the model failed", error)]
        # One by one, so that a request which the model cannot take does not fail its neighbours.
        return [outcome for request in requests for outcome in _generate(backend, [request])]
    shapes = {name: tuple(shape) for name, shape in backend.parameters.items()}
    return [_checked(tensors, shapes) for tensors in made]


def _checked(tensors: dict[str, Float32], promised: dict[str, tuple[int, ...]]) -> Made:
    """The tensors if they are complete, of the right shapes, float32 and finite."""
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    if shapes != promised:
        return BackendError(f"the model made {shapes}, it promised {promised}")
    if not all(values.dtype == np.float32 and np.isfinite(values).all() for values in tensors.values()):
        return BackendError("the model made parameters that are not finite float32 numbers")
    return tensors


def _probe(backend: AdaptBackend) -> AdaptRequest:
    image_dim, text_dim = backend.uplink_dims
    return AdaptRequest(
        device="healthz",
        model=backend.model,
        sequence=0,
        anchors=np.full((1, image_dim), 0.1, np.float32),
        queries=np.full((1, text_dim), 0.1, np.float32),
        clip_of_query=np.zeros(1, np.int64),
    )


def _failure(what: str, cause: Exception) -> BackendError:
    """A BackendError that is returned, not raised: with its cause all the same, for the log."""
    error = BackendError(f"{what}: {cause}")
    error.__cause__ = cause
    return error
