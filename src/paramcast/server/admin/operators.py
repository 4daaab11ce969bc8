"""Access to the operator's API by tokens, each with a role."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from paramcast.server.db import Database, StateInputError, identities
from paramcast.server.request_guard import RefusedError

_MINUTE_MS = 60_000
_noted: dict[int, int] = {}
"""Hash of a valid token -> unix milliseconds at which this process recorded its use."""

_bearer = HTTPBearer(auto_error=False)
_Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]

PREFIX = "/v1/operator"
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "the body is no text"},
    401: {"description": "no operator's token"},
    403: {"description": "the operator's role is too low, or the act is not possible"},
    413: {"description": "the body is too large"},
    503: {"description": "the state cannot be used now"},
}


@dataclass(frozen=True)
class Operator:
    """The operator of a token; `role` is one of `identities.ROLES`."""

    name: str
    role: str


def needs(database: Database, role: str) -> Callable[..., Operator]:
    """Make a dependency that accepts operators of `role` and of higher roles."""

    def check(shown: _Shown) -> Operator:
        return admitted(database, shown.credentials if shown else None, role)

    return check


def admitted(database: Database, token: str | None, role: str) -> Operator:
    """Return the operator of a token, and record the token's use.

    Raises:
        RefusedError: If the token is missing, unknown or has expired.
        StateInputError: If the operator's role is lower than `role`.
    """
    now_ms = int(1000 * time.time())
    with database.reading() as connection:
        found = identities.operator_of(connection, token, now_ms) if token else None
    if found is None:
        told = "this needs an operator's token that has not expired: authorization: Bearer TOKEN"
        raise RefusedError("unknown", told)
    seen = hash(token)
    if now_ms - max(found.used_at or 0, _noted.get(seen, 0)) > _MINUTE_MS:
        _noted[seen] = now_ms  # before the write, so that only one of many simultaneous requests writes
        with database.writing() as connection:
            identities.keep_use(connection, found.name, now_ms)
    if identities.ROLES.index(found.role) < identities.ROLES.index(role):
        raise StateInputError(f"{found.name} is {found.role}; this needs {role}")
    return Operator(found.name, found.role)


def token_of(shown: _Shown) -> str | None:
    """Return the token of the request; a dependency."""
    return shown.credentials if shown else None
