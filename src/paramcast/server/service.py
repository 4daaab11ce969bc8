"""Processing of requests apart from HTTP: generates updates, numbers, signs and records them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection

from paramcast.errors import InputError
from paramcast.protocol import (
    AdaptRequest,
    Credentials,
    Delegation,
    MessageError,
    Package,
    PackageError,
    SigningKey,
    public_key_hex,
    seal,
)
from paramcast.protocol.limits import MAX_SEQUENCE
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION, QUANTIZATIONS, Float32
from paramcast.server.asked import Answer, Asked, context_tag
from paramcast.server.backend import AdaptBackend
from paramcast.server.db import Database, StateConflictError, StateError
from paramcast.server.db.identities import Known, all_endorsements, known, spend
from paramcast.server.db.ledger import Issued, Place, keep_places, record, take_sequences
from paramcast.server.generating import Generated, failure, generate, size_class
from paramcast.server.notices import Notices, RecalledError, check_delegation
from paramcast.server.places import place_of
from paramcast.server.request_guard import Claim, RefusedError, RequestGuard, TooManyError, replayed
from paramcast.server.serving import Models, Served
from paramcast.server.tracing import Tracing
from paramcast.server.trial import trial_requests

_MOST_PLACES = 4096
"""Largest number of places that wait to be written: two seconds of a busy service."""

_PLACES_AT_ONCE = 500
"""Places in one transaction, so that it never blocks the database for long."""

_BYTES_OF_ONE = 16384
"""Bytes of a request that cost as much of the device's rate as one more request."""

_PROBES = 3
"""Requests of a health check for each model."""


Made = Generated | Answer | Exception
"""Parameters of a future update; or an answer or error, if no update is made."""


class AdaptService:
    """Checks requests; generates, numbers and signs updates. Safe to call from several threads."""

    def __init__(
        self,
        models: Models | AdaptBackend,
        key: SigningKey,
        *,
        lifetime_s: int,
        quantization: str = DEFAULT_QUANTIZATION,
        database: Database | None = None,
        gate: RequestGuard | None = None,
        tracing: Tracing | None = None,
        clock: Callable[[], float] | None = None,
        delegation: Delegation | None = None,
    ) -> None:
        """Serve `models`; updates are signed by `key` and expire `lifetime_s` seconds after `clock`.

        `delegation` is the root's delegation of the key, if the fleet has a root.

        Without `clock`, the clock of the gate is used.

        Without a `database` the service forgets its devices with the process; without a `gate` it serves
        unsigned requests too.

        Raises:
            InputError: If the lifetime is not positive, the quantization is unknown, or the delegation is for
                another key or has expired.
        """
        if lifetime_s <= 0:
            raise InputError("the lifetime of a package must be more than 0 seconds")
        if quantization not in QUANTIZATIONS:
            raise InputError(f"the quantization must be one of {', '.join(QUANTIZATIONS)}")
        self.models = models if isinstance(models, Models) else Models([Served(models)])
        self.database = database or Database.temporary()
        self.gate = gate or RequestGuard(clock=clock or time.time)
        self._tracing = tracing or Tracing()
        self._key = key
        self._secret = hashlib.blake2b(bytes(key), digest_size=32, person=b"context").digest()
        self._lifetime_s = lifetime_s
        self._quantization = quantization
        self._clock = clock or self.gate.clock
        if delegation is not None:
            check_delegation(delegation, key, self._clock())
        self.delegation = delegation
        self._generation = delegation.generation if delegation else 0
        self.notices = Notices(
            self.database,
            key,
            lifetime_s=lifetime_s,
            generation=self._generation,
            skew_s=self.gate.skew_s,
            clock=self._clock,
        )
        with suppress(StateError):  # housekeeping tries again
            self.look_at_recalls()
        self._working = threading.Lock()
        self._placing = threading.Lock()
        self._places: deque[Place] = deque()

    def adapt(self, data: bytes) -> bytes:
        """Turn an encoded, unsigned request into a signed update.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
            RefusedError: If the request has to be signed.
            BackendError: If the model fails.
            StateError: If the state cannot be written.
        """
        (outcome,) = self.answer([self.read(data)])
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome.data is not None  # without a tag there is always an update
        return outcome.data

    def read(self, data: bytes, credentials: Credentials | None = None, unless: str | None = None) -> Asked:
        """Decode a request, and check that a model here can serve it.

        Args:
            data: Bytes of `AdaptRequest.encode`.
            credentials: Content of the header that signs the request.
            unless: The tag of the update that the device has.

        Raises:
            MessageError: If the request is malformed or its features do not have the model's dimensions.
            WrongModelError: If the device runs another base model.
            RecalledError: If devices must run this base model without updates.
        """
        request = AdaptRequest.decode(data)
        served = self.models.pick(request.model, request.device)
        if self.notices.to_base(request.model):
            raise RecalledError(request.model)
        dims = (request.anchors.shape[1], request.queries.shape[1])
        if dims != tuple(served.backend.uplink_dims):
            raise MessageError(
                f"anchors and queries have {dims} columns, the model needs {served.backend.uplink_dims}"
            )
        digest = hashlib.sha256(data).digest() if credentials else b""
        claim = Claim(request.device, credentials, digest, cost=1.0 + len(data) // _BYTES_OF_ONE)
        return Asked(
            request,
            served,
            claim,
            context_tag(data, request, self._secret),
            unless,
            self._tracing.here(),
            size=len(data),
        )

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        """Make a signed update for each request, or an error that says why it has none.

        The error is a RefusedError, TooManyError or BackendError of one request, or a StateError of all:
        the used rate of a device, and the number of its update, are in the state before an answer is sent.
        Health checks need no state: a service without its database does not work, but a restart would not
        help.
        """
        origins = [one.origin for one in asked]
        with self._working, self._tracing.span("batch", origins, requests=len(asked)):
            try:
                with self._tracing.span("admit"):
                    admitted, made = self._admit(asked)
                with self._tracing.span("generate"):
                    self._generate(asked, made)
                with self._tracing.span("issue"), self.database.writing() as connection:
                    late = spend(connection, admitted, self.gate.latest_us())
                    self._refuse(asked, made, late)
                    outcomes, issued = self._issue(connection, asked, made)
            except StateError as error:
                return [error if one.claim else self._tried(one) for one in asked]
        self._places.extend(
            Place(one.request.device, sequence, one.served.backend.model, *place_of(one.request))
            for one, sequence in issued
        )
        if len(self._places) > _MOST_PLACES:  # without housekeeping, or if it is too slow
            with suppress(StateError):
                self.write_places()
        return outcomes

    def write_places(self) -> None:
        """Record the map places of the issued updates; no device waits for that.

        Raises:
            StateError: If the state cannot be written; the places that were not written are lost.
        """
        with self._placing:
            while places := [self._places.popleft() for _ in range(min(len(self._places), _PLACES_AT_ONCE))]:
                with self.database.writing() as connection:
                    keep_places(connection, places)

    def screen(self, claims: Sequence[Claim]) -> list[str | Exception | None]:
        """Return the key that signed each request, or its refusal, before the request takes a place.

        This uses up no rate; `answer` repeats all checks except that of the signature.
        """
        with self.database.reading() as connection:
            table = known(connection, [one.device for one in claims], int(1000 * self._clock()))
        keys: list[str | Exception | None] = []
        for claim in claims:
            try:
                keys.append(self.gate.admit(claim, dict(table)))
            except (RefusedError, TooManyError) as error:
                keys.append(error)
        return keys

    def look_at_recalls(self) -> None:
        """Read the recalls from the state. Raises StateError if it cannot be read."""
        self.notices.refresh([served.backend.model for served in self.models.serving])

    def keys(self) -> dict[str, Any]:
        """Return the answer of `/v1/keys`: signing key, endorsements of former keys, the root's delegation.

        Raises:
            StateError: If the state cannot be read.
        """
        with self.database.reading() as connection:
            chain = [vars(link) for link in all_endorsements(connection)]
        word = self.delegation.to_json() if self.delegation else None
        return {"public_key": public_key_hex(self._key), "endorsements": chain, "delegation": word}

    def probes(self) -> list[Asked]:
        """Make synthetic requests for each model; if they are answered, requests of devices are, too."""
        return [
            Asked(request, served, None)
            for served in self.models.serving
            for request in trial_requests(served.backend, _PROBES, "healthz")
        ]

    def describe(self, model: str | None = None) -> dict[str, Any]:
        """Return the answer of `/v1/model` about `model`, or about another one if it is not served.

        Raises:
            InputError: If no model is served yet.
        """
        backend = self.models.described(model)
        if backend is None:
            raise InputError("no model is in service yet; run: paramcast model publish ARTIFACT")
        return {
            "model": backend.model,
            "form": backend.form,
            "task": backend.task,
            "parameters": {name: list(shape) for name, shape in backend.parameters.items()},
            "uplink_dims": list(backend.uplink_dims),
            "quantization": self._quantization,
            "lifetime_s": self._lifetime_s,
            "public_key": public_key_hex(self._key),
        }

    def _admit(self, asked: Sequence[Asked]) -> tuple[dict[str, Known], list[Made | None]]:
        """Return the new times and rates of devices, and each request's outcome; None: to be generated."""
        now = self._clock()
        with self.database.reading() as connection:
            before = known(connection, [one.request.device for one in asked], int(1000 * now))
        table = dict(before)
        outcomes: list[Made | None] = []
        for one in asked:
            try:
                if one.claim is not None:
                    self.gate.admit(one.claim, table)
                outcomes.append(self._unchanged(one, now))
            except (RefusedError, TooManyError) as error:
                outcomes.append(error)
        return {name: one for name, one in table.items() if one is not before[name]}, outcomes

    def _refuse(self, asked: Sequence[Asked], made: list[Made | None], late: set[str]) -> None:
        """Refuse accepted requests of the `late` devices: another service has accepted a newer request."""
        for place, one in enumerate(asked):
            signer = one.claim and one.claim.credentials and one.claim.credentials.device
            if signer in late and one.claim is not None and not isinstance(made[place], Exception):
                made[place] = replayed(one.claim, int(1e6 * self._clock()))

    def _unchanged(self, asked: Asked, now: float) -> Answer | None:
        """Answer that the device has the same update already, unless over half of its lifetime has passed."""
        if asked.unless is None:
            return None
        made_of, _, expires = asked.unless.strip('"').rpartition("-")
        if made_of != asked.made_of or not expires.isascii() or not expires.isdigit():
            return None
        left_s = int(expires[:16]) - now
        return Answer(None, f"{made_of}-{expires}") if 2 * left_s > self._lifetime_s else None

    def _generate(self, asked: Sequence[Asked], made: list[Made | None]) -> None:
        """Fill in the parameters that each model generates for its requests."""
        places: dict[tuple[int, int, int], list[int]] = {}
        for place, outcome in enumerate(made):
            if outcome is None:
                kind = (id(asked[place].served), *size_class(asked[place].request))
                places.setdefault(kind, []).append(place)
        for mine in places.values():
            served = asked[mine[0]].served
            found = generate(served.backend, [asked[place].request for place in mine])
            for place, tensors in zip(mine, found, strict=True):
                made[place] = self._with_effect(served, tensors)

    def _with_effect(self, served: Served, made: dict[str, Float32] | Exception) -> Made:
        if isinstance(made, Exception):
            return made
        return Generated(made, served.effect_of(made, self._quantization))

    def _issue(
        self, connection: Connection, asked: Sequence[Asked], made: Sequence[Made | None]
    ) -> tuple[list[Answer | Exception], list[tuple[Asked, int]]]:
        """Give numbers to the generated updates, sign and record them, in the caller's transaction.

        Returns:
            The outcomes, and the requests with issued updates, each with the update's number.
        """
        now = self._clock()
        expires = int(now) + self._lifetime_s
        numbered = [
            place
            for place, outcome in enumerate(made)
            if isinstance(outcome, Generated) and asked[place].claim
        ]
        reported = [(asked[place].request.device, asked[place].request.sequence) for place in numbered]
        taken = take_sequences(connection, reported, int(1000 * now))
        sequences = dict(zip(numbered, taken, strict=True))
        outcomes: list[Answer | Exception] = []
        issued: list[tuple[Asked, int]] = []
        rows: list[Issued] = []
        for place, (one, outcome) in enumerate(zip(asked, made, strict=True)):
            if isinstance(outcome, Generated):
                outcome = self._sealed(one, outcome, sequences.get(place, 1), int(now))
                if isinstance(outcome, Answer) and place in sequences:
                    issued.append((one, sequences[place]))
                    rows.append(_issued(one, sequences[place], len(outcome.data or b""), now, expires))
            assert outcome is not None  # `_generate` fills in every place
            outcomes.append(outcome)
        record(connection, rows)
        return outcomes, issued

    def _tried(self, probe: Asked) -> Answer | Exception:
        """Answer a health check without the state."""
        (made,) = generate(probe.served.backend, [probe.request])
        if isinstance(made, Exception):
            return made
        return self._sealed(probe, Generated(made, None), 1, int(self._clock()))

    def _sealed(self, asked: Asked, made: Generated, sequence: int, issued: int) -> Answer | Exception:
        backend = asked.served.backend
        issued = max(issued, self.notices.since_s(backend.model))
        expires = issued + self._lifetime_s
        if sequence > MAX_SEQUENCE:
            name = asked.request.device
            return StateConflictError(f"the numbers of {name} are used up: paramcast access reset {name}")
        try:
            package = Package(
                device=asked.request.device,
                model=backend.model,
                sequence=sequence,
                expires=expires,
                form=backend.form,
                quantization=self._quantization,
                tensors=made.tensors,
                issued=issued,
                generation=self._generation,
                version=asked.served.number,
                effect=made.effect,
            )
            return Answer(seal(package, self._key), f"{asked.made_of}-{expires}")
        except PackageError as error:
            return failure("the model made parameters that cannot be sent", error)


def _issued(asked: Asked, sequence: int, size: int, now: float, expires: int) -> Issued:
    request, backend = asked.request, asked.served.backend
    return Issued(
        device=request.device,
        sequence=sequence,
        model=backend.model,
        version=asked.served.number,
        form=backend.form,
        context=asked.context,
        clips=len(request.anchors),
        queries=len(request.queries),
        bytes=size,
        latency_us=int(1e6 * (time.perf_counter() - asked.received)),
        issued_at=int(1000 * now),
        expires_at=1000 * expires,
        request_bytes=asked.size,
    )
