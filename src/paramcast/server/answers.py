"""Limits bodies of requests, and answers all errors as JSON: `{"error": text}`."""

from __future__ import annotations

import logging

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paramcast.protocol import MAX_REQUEST_BYTES, BadSignature, MessageError, SigningKey
from paramcast.protocol.credentials import SCHEME, tell_time
from paramcast.server.batching import OverloadedError
from paramcast.server.db import StateConflictError, StateError, StateInputError
from paramcast.server.generating import BackendError
from paramcast.server.notices import RecalledError
from paramcast.server.request_guard import RefusedError, TooManyError
from paramcast.server.serving import WrongModelError

RETRY_AFTER_S = 1
LATER = {"retry-after": str(RETRY_AFTER_S)}
_log = logging.getLogger(__name__)


class BodyTooLargeError(HTTPException):
    """The body is over the limit."""

    def __init__(self) -> None:
        super().__init__(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")


class LimitedBodies:
    """An ASGI application that reads at most 256 KiB of a request's body; a larger body is an error."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_REQUEST_BYTES:
                raise BodyTooLargeError
            return message

        await self._app(scope, limited, send)


SECURITY = {
    # Answers that are no page load nothing and run nothing; the page has a separate policy.
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


def with_security_headers(send: Send) -> Send:
    """Wrap `send` to add the security headers that the answer does not set itself."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in SECURITY.items() if name not in there]
            message = {**message, "headers": headers}
        await send(message)

    return secured


STATUS: dict[type[Exception], int] = {
    BadSignature: 403,
    MessageError: 422,
    RecalledError: 409,
    RefusedError: 401,
    TooManyError: 429,
    OverloadedError: 429,
    StateConflictError: 409,
    StateInputError: 403,
    WrongModelError: 409,
    StateError: 503,
    BackendError: 500,
}
"""Error class -> status of the answer."""


def error(status: int, text: str, headers: dict[str, str] | None = None, **more: object) -> JSONResponse:
    """Make an answer that says what is wrong."""
    return JSONResponse({"error": text, **more}, status_code=status, headers=headers)


def add_error_handlers(app: FastAPI, key: SigningKey) -> None:
    """Answer every error in the same form; internal causes go to the log only. `key` signs the time."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, problem: RequestValidationError) -> JSONResponse:
        first = problem.errors()[0]
        return error(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    async def told(_: Request, problem: Exception) -> JSONResponse:
        return answer_to(problem, key)

    app.add_exception_handler(StarletteHTTPException, told)
    for kind in STATUS:
        app.add_exception_handler(kind, told)


def answer_to(problem: Exception, key: SigningKey) -> JSONResponse:
    """Make the answer to an error; internal causes are logged and not sent."""
    status = next((status for kind, status in STATUS.items() if isinstance(problem, kind)), 500)
    if isinstance(problem, StarletteHTTPException):
        return error(problem.status_code, str(problem.detail), dict(problem.headers or {}))
    if status < 500:
        return error(status, str(problem), _headers(problem), **_more(problem, key))
    _log.error("%s", problem, exc_info=None if isinstance(problem, StateError) else problem)
    text = _HIDDEN.get(type(problem), "the service failed; its log says why")
    return error(status, text, _headers(problem))


_HIDDEN: dict[type[Exception], str] = {
    StateError: "the service cannot use its state; its log says why",
    BackendError: "the model failed on this request; the service's log says why",
}


def _headers(problem: Exception) -> dict[str, str] | None:
    if isinstance(problem, TooManyError):
        return {"retry-after": str(problem.retry_after_s)}
    if isinstance(problem, OverloadedError):
        # A refused client must not keep its connection while it waits.
        return {"retry-after": str(problem.retry_after_s), "connection": "close"}
    if isinstance(problem, StateError):
        return LATER
    return {"www-authenticate": SCHEME} if isinstance(problem, RefusedError) else None


def _more(problem: Exception, key: SigningKey) -> dict[str, object]:
    """Return the fields with which a device can correct a refused request: the code, and a signed time."""
    if isinstance(problem, RecalledError):
        return {"code": problem.code}
    if not isinstance(problem, RefusedError):
        return {}
    if problem.time_us is None:
        return {"code": problem.code}
    signature = tell_time(key, problem.nonce, problem.time_us)
    return {"code": problem.code, "time_us": problem.time_us, "signature": signature}
