"""Who may use the operator's API: a token each, and its role."""

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
"""Hash of a token that holds -> when this process has noted its use, unix milliseconds."""

_bearer = HTTPBearer(auto_error=False)
_Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]

PREFIX = "/v1/operator"
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "the body is no text"},
    401: {"description": "no operator's token"},
    403: {"description": "the operator's role is not enough, or what is asked is not possible"},
    413: {"description": "the body is too large"},
    503: {"description": "the state cannot be used now"},
}


@dataclass(frozen=True)
class Operator:
    """Whose token it is; `role` is one of `identities.ROLES`."""

    name: str
    role: str


def needs(database: Database, role: str) -> Callable[..., Operator]:
    """A dependency that lets in operators of `role` and those above it."""

    def check(shown: _Shown) -> Operator:
        return admitted(database, shown.credentials if shown else None, role)

    return check


def admitted(database: Database, token: str | None, role: str) -> Operator:
    """The operator whose token it is.

    Raises:
        RefusedError: If it is nobody's.
        StateInputError: If `role` is above the operator's.
    """
    now_ms = int(1000 * time.time())
    with database.reading() as connection:
        found = identities.operator_of(connection, token, now_ms) if token else None
    if found is None:
        told = "this needs an operator's token that has not expired: authorization: Bearer TOKEN"
        raise RefusedError("unknown", told)
    seen = hash(token)
    if now_ms - max(found.used_at or 0, _noted.get(seen, 0)) > _MINUTE_MS:
        _noted[seen] = now_ms  # first: of many requests that come at once, one writes
        with database.writing() as connection:
            identities.keep_use(connection, found.name, now_ms)
    if identities.ROLES.index(found.role) < identities.ROLES.index(role):
        raise StateInputError(f"{found.name} is {found.role}; this needs {role}")
    return Operator(found.name, found.role)


def token_of(shown: _Shown) -> str | None:
    """A dependency: the token that is shown."""
    return shown.credentials if shown else None
