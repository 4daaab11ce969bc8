"""The operator's API: enrol and revoke devices, see and roll back models. A token each, and its role."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from paramcast.cloud.fleet_routes import Whole
from paramcast.cloud.gate import RefusedError
from paramcast.cloud.service import AdaptService
from paramcast.cloud.state import StateInputError, identities, models
from paramcast.cloud.state.ledger import issued_to
from paramcast.cloud.state.schema import devices
from paramcast.wire.limits import DEVICE_ID

_DEVICE = f"^{DEVICE_ID.pattern}$"
_bearer = HTTPBearer(auto_error=False)


class Token(BaseModel):
    """For whom a token is and how long it may wait."""

    model_config = ConfigDict(extra="forbid", strict=True)
    device: str | None = Field(default=None, pattern=_DEVICE)
    lifetime_s: Whole = Field(default=86400, ge=60, le=30 * 86400)


class Rollback(BaseModel):
    """Which base model, by its first digits; may be left out while there is only one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = Field(default=None, pattern="^[0-9a-f]{1,64}$")


def operator_routes(service: AdaptService) -> APIRouter:
    """The routes over `service`."""
    database = service.database

    def need(role: str) -> Callable[..., None]:
        """A dependency that lets in operators of `role` and those above it."""

        def check(shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
            with database.reading() as connection:
                found = identities.role_of(connection, shown.credentials) if shown else None
            if found is None:
                raise RefusedError("unknown", "this needs an operator's token: authorization: Bearer TOKEN")
            if identities.ROLES.index(found[1]) < identities.ROLES.index(role):
                raise StateInputError(f"{found[0]} is {found[1]}; this needs {role}")

        return check

    responses: dict[int | str, dict[str, Any]] = {
        400: {"description": "the body is no text"},
        401: {"description": "no operator's token"},
        403: {"description": "the operator's role is not enough, or what is asked is not possible"},
        413: {"description": "the body is too large"},
        503: {"description": "the state cannot be used now"},
    }
    router = APIRouter(prefix="/v1/operator", responses=responses)

    @router.post("/enrolments", dependencies=[Depends(need("operator"))])
    def enrol(asked: Token) -> JSONResponse:
        """A token that enrols one device, once."""
        with database.writing() as connection:
            token = identities.new_enrolment(connection, asked.device, _now_ms(), 1000 * asked.lifetime_s)
        return JSONResponse({"token": token})

    @router.get(
        "/devices/{device}",
        dependencies=[Depends(need("viewer"))],
        responses={404: {"description": "it was never here"}},
    )
    def device(device: str) -> JSONResponse:
        """What is known of a device, and its newest packages."""
        with database.reading() as connection:
            row = connection.execute(select(devices).where(devices.c.id == device)).mappings().first()
            if row is None:
                return JSONResponse({"error": f"device {device} was never here"}, status_code=404)
            keys = identities.known(connection, [device], _now_ms()).get(device)
            packages = issued_to(connection, device)
        return JSONResponse({**row, "keys": keys.keys if keys else None, "packages": packages})

    @router.post("/devices/{device}/revoke", dependencies=[Depends(need("operator"))])
    def revoke(device: str) -> JSONResponse:
        """End all keys of a device, from the next request on."""
        with database.writing() as connection:
            return JSONResponse({"revoked": identities.revoke(connection, device, _now_ms())})

    @router.get("/models", dependencies=[Depends(need("viewer"))])
    def list_models() -> JSONResponse:
        """Every version there was, the newest first."""
        with database.reading() as connection:
            return JSONResponse([vars(version) for version in models.all_versions(connection)])

    @router.post("/models/rollback", dependencies=[Depends(need("admin"))])
    def rollback(asked: Rollback) -> JSONResponse:
        """Take the newest version of a model out of service."""
        with database.writing() as connection:
            return JSONResponse(vars(models.withdraw(connection, asked.model, _now_ms())))

    return router


def _now_ms() -> int:
    return int(1000 * time.time())
