"""The operator's API: enrol and revoke devices, list and roll back models. Access is by tokens with roles."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import select

from paramcast.protocol.limits import DEVICE_ID
from paramcast.server.admin.operators import PREFIX, RESPONSES, Operator, needs
from paramcast.server.db import events, identities, published
from paramcast.server.db.gains import gain_of_device
from paramcast.server.db.ledger import issued_to
from paramcast.server.db.registry import reported_by
from paramcast.server.db.schema import devices
from paramcast.server.fleet_routes import Whole, whole
from paramcast.server.service import AdaptService

_DEVICE = f"^{DEVICE_ID.pattern}$"
_Named = Annotated[str, Path(pattern=_DEVICE)]
_NEWEST = 50
_Page = Annotated[int, Query(ge=1, le=500)]
_Id = Annotated[int, Query(ge=1, le=2**53)]
# The bounds come before the validator; after it, they would be missing in the schema.
_Version = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(whole)]


class Token(BaseModel):
    """Device of an enrolment token (None: any new device), and the lifetime of the token."""

    model_config = ConfigDict(extra="forbid", strict=True)
    device: str | None = Field(default=None, pattern=_DEVICE)
    lifetime_s: Whole = Field(default=86400, ge=60, le=30 * 86400)


class Rollback(BaseModel):
    """Base model to roll back, by the first digits of its sha256, and the version to withdraw.

    The version is the newest version that the operator has seen. The model may be omitted if there is only
    one.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = Field(default=None, pattern="^[0-9a-f]{1,64}$")
    version: _Version | None = None


def operator_routes(service: AdaptService) -> APIRouter:
    """Make the routes of `service`."""
    database = service.database

    viewer = Depends(needs(database, "viewer"))
    acting, ruling = (Depends(needs(database, role)) for role in ("operator", "admin"))
    router = APIRouter(prefix=PREFIX, responses=RESPONSES)

    @router.post("/enrolments")
    def enrol(asked: Token, who: Operator = acting) -> JSONResponse:
        """Make a token that enrols one device once."""
        with database.writing(who.name) as connection:
            token = identities.new_enrolment(connection, asked.device, _now_ms(), 1000 * asked.lifetime_s)
        return JSONResponse({"token": token})

    @router.get(
        "/devices/{device}",
        dependencies=[viewer],
        responses={404: {"description": "the device is unknown"}},
    )
    def device(device: _Named) -> JSONResponse:
        """Describe a device: record, keys, newest 50 updates and reports, and gain over all reports."""
        with database.reading() as connection:
            row = connection.execute(select(devices).where(devices.c.id == device)).mappings().first()
            if row is None:
                return JSONResponse({"error": f"device {device} is unknown"}, status_code=404)
            keys = identities.known(connection, [device], _now_ms()).get(device)
            told: dict[str, Any] = {
                "packages": issued_to(connection, device, last=_NEWEST),
                "reports": reported_by(connection, device, last=_NEWEST),
            }
            gain = gain_of_device(connection, device)
        told["gain"] = vars(gain) if gain else None
        return JSONResponse({**row, "keys": keys.keys if keys else None, **told})

    @router.post("/devices/{device}/revoke")
    def revoke(device: _Named, who: Operator = acting) -> JSONResponse:
        """Revoke all keys of a device, from the next request on."""
        with database.writing(who.name) as connection:
            return JSONResponse({"revoked": identities.revoke(connection, device, _now_ms())})

    @router.get("/models", dependencies=[viewer])
    def list_models() -> JSONResponse:
        """List all versions, the newest first."""
        with database.reading() as connection:
            return JSONResponse([vars(version) for version in published.all_versions(connection)])

    @router.get("/events", dependencies=[acting])
    def list_events(last: _Page = _NEWEST, before: _Id | None = None) -> JSONResponse:
        """List the recorded acts, the newest first; `before` an id gives the page of earlier acts."""
        with database.reading() as connection:
            return JSONResponse([vars(one) for one in events.newest(connection, last, before)])

    @router.post(
        "/models/rollback",
        responses={409: {"description": "the version is not the newest one any more"}},
    )
    def rollback(asked: Rollback, who: Operator = ruling) -> JSONResponse:
        """Withdraw the newest version of a model, and every other version with the same files."""
        with database.writing(who.name) as connection:
            gone = published.withdraw(connection, asked.model, _now_ms(), asked.version)
        return JSONResponse({**vars(gone[0]), "withdrawn": [one.version for one in gone]})

    return router


def _now_ms() -> int:
    return int(1000 * time.time())
