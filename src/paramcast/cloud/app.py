"""The HTTP side of the service."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from paramcast import __version__
from paramcast.cloud.answers import LATER, LimitedBodies, add_error_handlers, error, status_of
from paramcast.cloud.batching import Batcher
from paramcast.cloud.fleet_routes import fleet_routes
from paramcast.cloud.gate import Gate
from paramcast.cloud.housekeeping import housekeeping
from paramcast.cloud.metrics import Metrics
from paramcast.cloud.models import AdaptBackend, Models
from paramcast.cloud.operator_routes import operator_routes
from paramcast.cloud.service import AdaptService, Answer, Asked, BackendError
from paramcast.cloud.state import Database, StateError
from paramcast.errors import InputError
from paramcast.wire import MAX_REQUEST_BYTES, SigningKey, public_key_hex

BINARY = "application/octet-stream"
_log = logging.getLogger(__name__)

_BINARY_CONTENT = {BINARY: {"schema": {"type": "string", "format": "binary"}}}
_TEXT = {"schema": {"type": "string"}}
_ADAPT_OPERATION = {
    "summary": "Adapt",
    "description": "Turn a device's request (safetensors) into a sealed package.",
    "operationId": "adapt_v1_adapt_post",
    "parameters": [
        {"name": "authorization", "in": "header", "description": "signs the request", **_TEXT},
        {"name": "if-none-match", "in": "header", "description": "`etag` of the package it has", **_TEXT},
    ],
    "requestBody": {"required": True, "content": _BINARY_CONTENT},
    "responses": {
        "200": {"content": _BINARY_CONTENT, "description": "a sealed package; its `etag`"},
        "304": {"description": "the package would be made again as it is"},
        "401": {"description": "the signature is missing, wrong, too old or used; `code` says which"},
        "409": {"description": "the device runs another base model"},
        "413": {"description": f"the request has more than {MAX_REQUEST_BYTES} bytes"},
        "422": {"description": "the request is malformed"},
        "429": {"description": "too many requests; come back after `retry-after` seconds"},
        "500": {"description": "the model failed"},
        "503": {"description": "the state cannot be written; come back after `retry-after` seconds"},
    },
}


def create_app(
    models: Models | AdaptBackend,
    key: SigningKey,
    *,
    lifetime_s: int = 7 * 86400,
    quantisation: str = "int8",
    database: Database | None = None,
    gate: Gate | None = None,
    largest_batch: int = 32,
    waiting_room: int = 512,
    keep_s: float = 30 * 86400,
) -> FastAPI:
    """The service for one model, or for several.

    Args:
        models: Make the parameters.
        key: Signs the packages.
        lifetime_s: Seconds after which a package may no longer be taken up.
        quantisation: `fp32`, `fp16`, `int8` or `int4`.
        database: The state; without it the service forgets its devices with the process.
        gate: Who is let in; without it everybody is, but under the name of an enrolled device.
        largest_batch: Requests that are generated together.
        waiting_room: Requests that may wait: 512 are half a second of work, and 128 MB if all are as large
            as they may be.
        keep_s: Seconds for which packages and feedback stay on record.

    Raises:
        InputError: If the lifetime or the quantisation is not possible.
    """
    service = AdaptService(
        models, key, lifetime_s=lifetime_s, quantisation=quantisation, database=database, gate=gate
    )
    metrics = Metrics()
    batcher: Batcher[Asked, Answer] = Batcher(
        service.answer, largest=largest_batch, room=waiting_room, metrics=metrics
    )
    adapt = Route("/v1/adapt", _Adapt(service, batcher, metrics), methods=["POST"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Keep the garbage collector off what is loaded once: looking through torch alone takes 0.1 s.
        gc.collect()
        gc.freeze()
        async with housekeeping(service, keep_s):
            yield

    app = FastAPI(
        title="paramcast",
        version=__version__,
        routes=[adapt],
        lifespan=lifespan,
        middleware=[Middleware(LimitedBodies)],
    )

    async def _failing() -> str | None:
        """Why no package can be made now, in the way in which devices get theirs."""
        try:
            for probe in service.probes():
                await batcher.ask(probe, whatever_waits=True)
            service.describe()
        except (BackendError, StateError, InputError) as problem:
            _log.error("health check: %s", problem)
            return str(problem) if isinstance(problem, InputError) else "the log says why"
        return None

    @app.get("/healthz", responses={503: {"description": "a model cannot make parameters"}})
    async def healthz() -> JSONResponse:
        """Say ok only if packages can be made now: else this process should be started anew."""
        if await _failing():
            return JSONResponse({"status": "failing"}, status_code=503)
        return JSONResponse({"status": "ok", "model": service.describe()["model"]})

    @app.get("/readyz", responses={503: {"description": "requests should go elsewhere for now"}})
    async def readyz() -> JSONResponse:
        """Say ready only if a request that came now would be answered: model, state and queue."""
        why = "the queue is full" if batcher.full else await _failing()
        if why is None:
            try:
                await run_in_threadpool(service.database.check)
            except StateError as problem:
                _log.error("readiness: %s", problem)
                why = "the state cannot be written"
        if why is not None:
            return JSONResponse({"status": "not ready", "error": why}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures() -> Response:
        """What the service counts, in the text format of Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/model", responses={503: {"description": "no model is in service yet"}})
    async def describe(model: str | None = None) -> JSONResponse:
        """The base model `model` if it is served, else another one, and the key that signs packages."""
        try:
            return JSONResponse(service.describe(model))
        except InputError as problem:
            return error(503, str(problem), LATER)

    app.include_router(fleet_routes(service, public_key_hex(key), metrics))
    app.include_router(operator_routes(service))
    add_error_handlers(app, key)
    _describe_adapt(app)
    return app


class _Adapt:
    """`POST /v1/adapt` as a plain ASGI application: FastAPI's way to a function costs more than the model."""

    def __init__(self, service: AdaptService, batcher: Batcher[Asked, Answer], metrics: Metrics) -> None:
        self._service, self._batcher, self._metrics = service, batcher, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, counted)
        except Exception as problem:
            status = status_of(problem)
            raise
        finally:
            self._metrics.answers.labels(status).inc()
            self._metrics.latency.observe(time.perf_counter() - begin)

    async def _answer(self, request: Request) -> Response:
        body, headers = await request.body(), request.headers
        self._metrics.received.observe(len(body))
        unless = headers.get("if-none-match")
        asked = self._service.read(body, headers.get("authorization"), unless and unless.strip('"'))
        answer = await self._batcher.ask(asked)
        tag = {"etag": f'"{answer.tag}"'}
        if answer.data is None:
            return Response(status_code=304, headers=tag)
        self._metrics.sent.observe(len(answer.data))
        return Response(answer.data, media_type=BINARY, headers=tag)


def _describe_adapt(app: FastAPI) -> None:
    """Put the route that FastAPI does not know into its schema."""
    without = app.openapi

    def openapi() -> dict[str, Any]:
        schema = without()
        schema["paths"]["/v1/adapt"] = {"post": _ADAPT_OPERATION}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation does it
