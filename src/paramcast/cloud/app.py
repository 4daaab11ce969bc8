"""The HTTP side of the service: its routes, and one JSON form for errors."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from paramcast import __version__
from paramcast.cloud.batching import Batcher, OverloadedError
from paramcast.cloud.housekeeping import housekeeping
from paramcast.cloud.models import AdaptBackend, Models, WrongModelError
from paramcast.cloud.service import AdaptService, Asked, BackendError
from paramcast.cloud.state import Database, StateError
from paramcast.errors import InputError
from paramcast.wire import MAX_REQUEST_BYTES, MessageError, SigningKey

BINARY = "application/octet-stream"
LARGEST_BATCH = 32
WAITING_ROOM = 512
"""Requests that may wait; a quarter of a second of work, and 128 MB if all are as large as they may be."""

RETRY_AFTER_S = 1
_LATER = {"retry-after": str(RETRY_AFTER_S)}
_log = logging.getLogger(__name__)

_BINARY_CONTENT = {BINARY: {"schema": {"type": "string", "format": "binary"}}}
_ADAPT_OPERATION = {
    "summary": "Adapt",
    "description": "Turn a device's request (safetensors) into a sealed package.",
    "operationId": "adapt_v1_adapt_post",
    "requestBody": {"required": True, "content": _BINARY_CONTENT},
    "responses": {
        "200": {"content": _BINARY_CONTENT, "description": "a sealed package"},
        "409": {"description": "the device runs another base model"},
        "413": {"description": f"the request has more than {MAX_REQUEST_BYTES} bytes"},
        "422": {"description": "the request is malformed"},
        "429": {"description": "too many requests are waiting; come back after `retry-after` seconds"},
        "500": {"description": "the model failed"},
        "503": {"description": "the state cannot be written; come back after `retry-after` seconds"},
    },
}


class _BodyTooLarge(Exception):
    """The body is over the limit."""


def create_app(
    models: Models | AdaptBackend,
    key: SigningKey,
    *,
    lifetime_s: int = 7 * 86400,
    quantisation: str = "int8",
    database: Database | None = None,
) -> FastAPI:
    """The service for one model, or for several.

    Args:
        models: Make the parameters.
        key: Signs the packages.
        lifetime_s: Seconds after which a package may no longer be taken up.
        quantisation: `fp32`, `fp16`, `int8` or `int4`.
        database: The state; without it the service forgets its devices with the process.

    Raises:
        InputError: If the lifetime or the quantisation is not possible.
    """
    service = AdaptService(models, key, lifetime_s=lifetime_s, quantisation=quantisation, database=database)
    batcher: Batcher[Asked, bytes] = Batcher(service.answer, largest=LARGEST_BATCH, room=WAITING_ROOM)
    adapt = Route("/v1/adapt", _Adapt(service, batcher), methods=["POST"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Keep the garbage collector off what is loaded once: looking through torch alone takes 0.1 s.
        gc.collect()
        gc.freeze()
        async with housekeeping(service):
            yield

    app = FastAPI(title="paramcast", version=__version__, routes=[adapt], lifespan=lifespan)

    @app.get("/healthz", responses={503: {"description": "a model cannot make parameters"}})
    async def healthz() -> JSONResponse:
        """Say ok only if packages can be made now, in the way in which devices get theirs."""
        try:
            for probe in service.probes():
                await batcher.ask(probe, whatever_waits=True)
            served = service.describe()
        except (BackendError, StateError, InputError) as error:
            _log.error("health check: %s", error)
            return JSONResponse({"status": "failing"}, status_code=503)
        return JSONResponse({"status": "ok", "model": served["model"]})

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        """How the queue does, in the text format of Prometheus."""
        figures = (
            ("paramcast_requests_total", "counter", "Requests that the model was given.", batcher.given),
            ("paramcast_batches_total", "counter", "Batches in which it was given them.", batcher.batches),
            ("paramcast_refused_total", "counter", "Requests for which there was no room.", batcher.refused),
            ("paramcast_waiting", "gauge", "Requests that wait now.", batcher.waiting),
        )
        return PlainTextResponse(
            "".join(
                f"# HELP {name} {what}\n# TYPE {name} {kind}\n{name} {value}\n"
                for name, kind, what, value in figures
            )
        )

    @app.get("/v1/model", responses={503: {"description": "no model is in service yet"}})
    async def describe(model: str | None = None) -> JSONResponse:
        """The base model `model` if it is served, else another one, and the key that signs packages."""
        try:
            return JSONResponse(service.describe(model))
        except InputError as error:
            return _error(503, str(error), _LATER)

    _add_error_handlers(app)
    _describe_adapt(app)
    return app


class _Adapt:
    """`POST /v1/adapt` as a plain ASGI application: FastAPI's way to a function costs more than the model."""

    def __init__(self, service: AdaptService, batcher: Batcher[Asked, bytes]) -> None:
        self._service, self._batcher = service, batcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._service.read(await _read_body(Request(scope, receive)))
        response = Response(await self._batcher.ask(asked), media_type=BINARY)
        await response(scope, receive, send)


def _describe_adapt(app: FastAPI) -> None:
    """Put the route that FastAPI does not know into its schema."""
    without = app.openapi

    def openapi() -> dict[str, Any]:
        schema = without()
        schema["paths"]["/v1/adapt"] = {"post": _ADAPT_OPERATION}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation does it


async def _read_body(request: Request) -> bytes:
    """Read the body, and stop as soon as it is over the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            raise _BodyTooLarge
    return bytes(body)


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error with `{"error": text}`; what failed inside stays in the log."""

    @app.exception_handler(_BodyTooLarge)
    async def too_large(_: Request, error: Exception) -> JSONResponse:
        return _error(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")

    @app.exception_handler(MessageError)
    async def malformed(_: Request, error: Exception) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(WrongModelError)
    async def wrong_model(_: Request, error: Exception) -> JSONResponse:
        return _error(409, str(error))

    @app.exception_handler(OverloadedError)
    async def overloaded(_: Request, error: Exception) -> JSONResponse:
        return _error(429, str(error), _LATER)

    @app.exception_handler(StateError)
    async def no_state(_: Request, error: Exception) -> JSONResponse:
        _log.error("adapt: %s", error)
        return _error(503, "the service cannot write its state; its log says why", _LATER)

    @app.exception_handler(BackendError)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        _log.error("adapt: %s", error, exc_info=error)
        return _error(500, "the model failed on this request; the service's log says why")


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status, headers=headers)
