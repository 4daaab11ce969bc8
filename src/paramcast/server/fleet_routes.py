"""Routes for devices besides updates: enrolment, change of the key, reports of gains, keys and notices."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from paramcast.protocol import Credentials, MessageError
from paramcast.protocol.credentials import check_proof
from paramcast.protocol.limits import DEVICE_ID, MAX_SEQUENCE, MODEL_ID
from paramcast.server.adapt_route import BINARY
from paramcast.server.db import identities
from paramcast.server.db.registry import keep_report
from paramcast.server.metrics import Metrics
from paramcast.server.request_guard import AddressRates, Claim, RefusedError, read_credentials, replayed
from paramcast.server.service import AdaptService

_COST_OF_A_KEY = 20.0
"""Cost of a key change within a device's rate: by default three changes at once, then three a minute."""

_ENROLMENTS_A_MINUTE, _ENROLMENTS_AT_ONCE = 300.0, 100
"""Limits for one address, so that a client that guesses tokens does not keep the state busy."""

_FOR_CACHES = {"cache-control": "public, max-age=300"}

_DeviceId = Annotated[str, Field(pattern=f"^{DEVICE_ID.pattern}$")]
_Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Signature = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
_Signed = Annotated[str | None, Header(description="Paramcast DEVICE TIME NONCE SIGNATURE")]


def whole(value: Any) -> Any:
    """Convert 5.0 to 5, because in JSON both are whole numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]


class _Body(BaseModel):
    """A JSON object of fixed keys; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


Body = TypeVar("Body", bound=_Body)


class Enrolment(_Body):
    """Token, name and public key of a device, and the proof of the key (`credentials.prove_key`)."""

    token: str = Field(min_length=1, max_length=100)
    device: _DeviceId
    public_key: _Hex
    proof: _Signature


class NewKey(_Body):
    """A device's next public key, with its proof; the request is signed by the present key."""

    public_key: _Hex
    proof: _Signature


class Feedback(_Body):
    """A device's report of an update. `gain` is in percentage points, as the device measured it."""

    sequence: Whole = Field(ge=1, le=MAX_SEQUENCE)
    applied: bool
    gain: float | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    reason: str | None = Field(default=None, max_length=300, pattern="^[^\\x00]*$")
    user: str | None = Field(default=None, max_length=126, pattern="^[A-Za-z0-9._:@+-]+$")


def _described(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body for the OpenAPI schema; the body is read as bytes, because the bytes are signed."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def fleet_routes(service: AdaptService, public_key: str, metrics: Metrics) -> APIRouter:
    """Make the routes of `service`, whose updates are signed by `public_key` (hex)."""
    router = APIRouter()
    database = service.database
    enrolling = AddressRates(_ENROLMENTS_A_MINUTE, _ENROLMENTS_AT_ONCE)
    refusals: dict[int | str, dict[str, Any]] = {
        400: {"description": "the body is no text"},
        401: {"description": "the signature is missing, wrong, too old or used; `code` says which"},
        403: {"description": "the token or the key is not accepted"},
        413: {"description": "the body is too large"},
        422: {"description": "the body is malformed"},
        429: {"description": "the device, or the address, asks too often"},
        503: {"description": "the state cannot be used now"},
    }

    def admitted(request: Request, credentials: Credentials, body: bytes, cost: float = 1.0) -> str:
        """Accept a signed request in a separate transaction, so that its time is used up in any case.

        Returns the key that signed the request.
        """
        device, digest = credentials.device, hashlib.sha256(body).digest()
        # The raw path of the request, because `request.url` depends on the Host that the client names.
        claim = Claim(device, credentials, digest, request.method, request.scope["path"], cost)
        (found,) = service.screen([claim])  # unknown signers never wait for a write to the state
        if isinstance(found, Exception):
            raise found
        claim = replace(claim, key=found)
        with database.writing() as connection:
            table = identities.known(connection, [device], _now_ms())
            key = service.gate.admit(claim, table)
            if identities.spend(connection, {device: table[device]}, service.gate.latest_us()):
                raise replayed(claim, int(1e6 * service.gate.clock()))
        return str(key)

    @router.post("/v1/enrol", responses=refusals)
    def enrol(asked: Enrolment, request: Request) -> JSONResponse:
        """Enrol a device with its public key; this uses up the token."""
        enrolling.use(request.client.host if request.client else "")
        check_proof(asked.public_key, asked.device, asked.token, asked.proof)
        with database.writing(asked.device) as connection:
            identities.enrol(connection, asked.token, asked.device, asked.public_key, _now_ms())
        root = service.delegation.root if service.delegation else None
        return JSONResponse({"device": asked.device, "public_key": public_key, "root": root})

    @router.post("/v1/key", responses=refusals, openapi_extra=_described(NewKey))
    async def rotate(request: Request, authorization: _Signed = None) -> JSONResponse:
        """Change a device's key; the old key stays valid for another day."""
        body = await request.body()
        credentials = _credentials(authorization)
        device = credentials.device
        asked = _parsed(NewKey, body)
        check_proof(asked.public_key, device, "next", asked.proof)

        def change() -> None:
            key = admitted(request, credentials, body, _COST_OF_A_KEY)
            with database.writing() as connection:
                identities.rotate(connection, device, key, asked.public_key, _now_ms())

        await run_in_threadpool(change)
        return JSONResponse({"device": device, "public_key": asked.public_key})

    @router.post("/v1/feedback", responses=refusals, openapi_extra=_described(Feedback))
    async def report(request: Request, authorization: _Signed = None) -> JSONResponse:
        """Keep a device's first report of an update of the device or of its user; signed requests only."""
        body = await request.body()
        credentials = _credentials(authorization)
        device = credentials.device
        told = _parsed(Feedback, body)
        whose = device if told.user is None else f"{device}:{told.user}"

        def keep() -> bool:
            admitted(request, credentials, body)
            with database.writing() as connection:
                row = {**told.model_dump(exclude={"user"}), "device": whose, "received_at": _now_ms()}
                return keep_report(connection, row)

        if not await run_in_threadpool(keep):
            return JSONResponse({"kept": False})
        if not told.applied:
            metrics.not_applied.inc()
        elif told.gain is not None:
            metrics.gain.observe(told.gain)
        return JSONResponse({"kept": True})

    @router.get("/v1/keys", responses={503: refusals[503]})
    def keys() -> JSONResponse:
        """Return the key that signs updates, the endorsements of former keys, and the root's delegation."""
        return JSONResponse(service.keys())

    @router.get(
        "/v1/notice/{model}",
        response_class=Response,
        responses={404: {"description": "the base model is not known here"}},
    )
    def notice(model: Annotated[str, Path(pattern=f"^{MODEL_ID.pattern}$")]) -> Response:
        """Return the signed notice for a base model; caches may keep it for five minutes."""
        data = service.notices.of(model)
        if data is None:
            return JSONResponse({"error": "there is no notice for this base model here"}, status_code=404)
        return Response(data, media_type=BINARY, headers=_FOR_CACHES)

    return router


def _credentials(header: str | None) -> Credentials:
    """Read the `authorization` header. Raises RefusedError if it is missing or malformed."""
    credentials = read_credentials(header)
    if credentials is None:
        raise RefusedError("unsigned", "this must be signed by an enrolled device")
    return credentials


def _parsed(model: type[Body], body: bytes) -> Body:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise MessageError(f"{where}: {first['msg']}") from error


def _now_ms() -> int:
    return int(1000 * time.time())
