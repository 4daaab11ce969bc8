"""What devices ask besides packages: to be enrolled, to change their key, to report what a package gained."""

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
"""Of a device's rate: by default it may change its key three times at once, then thrice a minute."""

_ENROLMENTS_A_MINUTE, _ENROLMENTS_AT_ONCE = 300.0, 100
"""Of one address: who guesses tokens does not keep the state busy."""

_FOR_CACHES = {"cache-control": "public, max-age=300"}

_DeviceId = Annotated[str, Field(pattern=f"^{DEVICE_ID.pattern}$")]
_Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Signature = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
_Signed = Annotated[str | None, Header(description="Paramcast DEVICE TIME NONCE SIGNATURE")]


def whole(value: Any) -> Any:
    """Read 5.0 as 5: in JSON it is a whole number too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]


class _Body(BaseModel):
    """JSON of these keys and no other."""

    model_config = ConfigDict(extra="forbid", strict=True)


Body = TypeVar("Body", bound=_Body)


class Enrolment(_Body):
    """A device's token and its proof that it has the key (`paramcast.protocol.credentials.prove_key`)."""

    token: str = Field(min_length=1, max_length=100)
    device: _DeviceId
    public_key: _Hex
    proof: _Signature


class NewKey(_Body):
    """A device's next key, proved over the one with which the request is signed."""

    public_key: _Hex
    proof: _Signature


class Feedback(_Body):
    """What came of a package. `gain` in percentage points, as the device measured it."""

    sequence: Whole = Field(ge=1, le=MAX_SEQUENCE)
    applied: bool
    gain: float | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    reason: str | None = Field(default=None, max_length=300, pattern="^[^\\x00]*$")
    user: str | None = Field(default=None, max_length=126, pattern="^[A-Za-z0-9._:@+-]+$")


def _described(model: type[BaseModel]) -> dict[str, Any]:
    """How a body that is read by hand, as it is signed byte by byte, stands in the OpenAPI schema."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def fleet_routes(service: AdaptService, public_key: str, metrics: Metrics) -> APIRouter:
    """The routes over `service`, whose packages are signed by `public_key` (hex)."""
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
        """Let a signed request in, in a transaction of its own: its time is used up whatever follows.

        Returns the key that signed it.
        """
        device, digest = credentials.device, hashlib.sha256(body).digest()
        # The path as it came: a URL is put together with the Host that the client names.
        claim = Claim(device, credentials, digest, request.method, request.scope["path"], cost)
        (found,) = service.screen([claim])  # a stranger takes no turn of those who write to the state
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
        """Give a device its key, for a token that is used up by it."""
        enrolling.use(request.client.host if request.client else "")
        check_proof(asked.public_key, asked.device, asked.token, asked.proof)
        with database.writing(asked.device) as connection:
            identities.enrol(connection, asked.token, asked.device, asked.public_key, _now_ms())
        root = service.delegation.root if service.delegation else None
        return JSONResponse({"device": asked.device, "public_key": public_key, "root": root})

    @router.post("/v1/key", responses=refusals, openapi_extra=_described(NewKey))
    async def rotate(request: Request, authorization: _Signed = None) -> JSONResponse:
        """Change a device's key; the old one holds for another day."""
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
        """Keep what a device says, once, of a package that it or its user was given. Signed requests only."""
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
        """The key that signs packages, how those before it endorsed it, and the root's word for it."""
        return JSONResponse(service.keys())

    @router.get(
        "/v1/notice/{model}",
        response_class=Response,
        responses={404: {"description": "the base model is not known here"}},
    )
    def notice(model: Annotated[str, Path(pattern=f"^{MODEL_ID.pattern}$")]) -> Response:
        """What is called back of the updates for a base model, signed; caches may keep it for a while."""
        data = service.notices.of(model)
        if data is None:
            return JSONResponse({"error": "there is no notice for this base model here"}, status_code=404)
        return Response(data, media_type=BINARY, headers=_FOR_CACHES)

    return router


def _credentials(header: str | None) -> Credentials:
    """What the header says. Raises RefusedError if there is none, or no such."""
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
