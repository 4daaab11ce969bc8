"""The HTTP application of the service."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paramcast import __version__
from paramcast.errors import InputError
from paramcast.protocol import Delegation, SigningKey, public_key_hex
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION
from paramcast.server.adapt_route import OPERATION, PATH, AdaptRoute
from paramcast.server.admin.dashboard_routes import dashboard_routes
from paramcast.server.admin.live import Live
from paramcast.server.admin.operator_routes import operator_routes
from paramcast.server.admin.operators import PREFIX
from paramcast.server.admin.page import page_routes
from paramcast.server.answers import LATER, LimitedBodies, add_error_handlers, error, with_security_headers
from paramcast.server.asked import Answer, Asked
from paramcast.server.backend import AdaptBackend
from paramcast.server.batching import Batcher
from paramcast.server.bundles import BrowserBundle, bundle_routes
from paramcast.server.db import Database
from paramcast.server.fleet_routes import fleet_routes
from paramcast.server.health import Health
from paramcast.server.housekeeping import housekeeping
from paramcast.server.inspection import Inspection, inspecting
from paramcast.server.metrics import Metrics
from paramcast.server.request_guard import Claim, Patience, RequestGuard
from paramcast.server.service import AdaptService
from paramcast.server.serving import Models
from paramcast.server.tracing import Tracing

_SIGNED = (PATH, "/v1/key", "/v1/feedback")
_REFUSALS = (400, 401, 403, 404, 413, 422)


class CloudApp(FastAPI):
    """FastAPI with a direct call of the most frequent route, `/v1/adapt`.

    Attributes:
        service: Answers requests.
        patience: Delays unsigned requests that come too fast, except to `/v1/adapt` if it serves them, and
            refusals of signed requests.
        adapt: The route `/v1/adapt`.
        live: Event streams of the dashboard.
    """

    service: AdaptService
    patience: Patience
    adapt: AdaptRoute
    live: Live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        secured = with_security_headers(send)
        if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
            twice = error(400, "authorization may be sent once only", {"connection": "close"})
            await twice(scope, receive, secured)
            return
        path, address = scope["path"], scope["client"][0] if scope.get("client") else ""
        signed = any(name == b"authorization" for name, _ in scope["headers"])
        if signed and (path in _SIGNED or path.startswith(f"{PREFIX}/")):
            secured = self._refusing_slowly(secured, address)
        elif path != PATH or self.service.gate.required:
            await asyncio.sleep(self.patience.wait_s(address))
        if scope["path"] == PATH and scope["method"] == "POST":
            await self.adapt(scope, receive, secured)
        else:
            await super().__call__(scope, receive, secured)

    def _refusing_slowly(self, send: Send, address: str) -> Send:
        """Wrap `send` to delay refusals like answers to unsigned requests: anybody can write a signature."""

        async def slowed(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _REFUSALS:
                await asyncio.sleep(self.patience.wait_s(address))
            await send(message)

        return slowed

    def openapi(self) -> dict[str, Any]:
        """Return the schema, with the route that FastAPI does not know."""
        schema = super().openapi()
        schema["paths"][PATH] = {"post": OPERATION}
        return schema


class PublicApp:
    """The routes for devices without the routes for operators, for a publicly reachable address."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or answer 404 for an internal route."""
        path = scope.get("path", "")
        if path in _INTERNAL or path.startswith(f"{PREFIX}/"):
            await error(404, "Not Found")(scope, receive, with_security_headers(send))
        else:
            await self._app(scope, receive, send)


_INTERNAL = ("/healthz", "/readyz", "/metrics", "/openapi.json")


def create_app(
    models: Models | AdaptBackend,
    key: SigningKey,
    *,
    lifetime_s: int = 7 * 86400,
    quantization: str = DEFAULT_QUANTIZATION,
    database: Database | None = None,
    gate: RequestGuard | None = None,
    largest_batch: int = 32,
    waiting_room: int = 512,
    keep_s: float = 30 * 86400,
    bundles: Sequence[BrowserBundle] = (),
    tracing: Tracing | None = None,
    delegation: Delegation | None = None,
) -> CloudApp:
    """Make the application of a service for one model or several.

    Args:
        models: Generate the parameters.
        key: Signs the updates.
        lifetime_s: Seconds after which devices may no longer accept an update.
        quantization: `fp32`, `fp16`, `int8` or `int4`.
        database: The state; without it the service forgets its devices with the process.
        gate: Rules for accepting requests; without it unsigned requests are served, except in the name of an
            enrolled device.
        largest_batch: Largest number of requests that are generated together.
        waiting_room: Largest number of waiting requests: 512 requests are half a second of work, and 128 MB
            if all have the largest allowed size.
        keep_s: Seconds for which updates and feedback stay on record.
        bundles: Further bundles that the page at `/` may load, besides the bundles of the models.
        tracing: Traces batches; without it they are not traced.
        delegation: The root's delegation of `key`, if the fleet has a root.

    Raises:
        InputError: If the lifetime or the quantization is invalid, or the delegation is not for this key.
    """
    service = AdaptService(
        models,
        key,
        lifetime_s=lifetime_s,
        quantization=quantization,
        database=database,
        gate=gate,
        tracing=tracing,
        delegation=delegation,
    )
    metrics = Metrics()
    batcher: Batcher[Asked, Answer] = Batcher(
        service.answer, largest=largest_batch, room=waiting_room, metrics=metrics
    )
    # A check of a signature takes a tenth of the time that generating takes, so more requests may wait for
    # it. The limit of connections bounds their number.
    screen: Batcher[Claim, str | None] = Batcher(service.screen, largest=128, room=8 * waiting_room)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The garbage collector must skip the objects that were loaded once: a pass over them takes 0.1 s.
        gc.collect()
        gc.freeze()
        async with housekeeping(service, keep_s, metrics), inspecting(inspection):
            yield
        if tracing:
            tracing.close()

    app = CloudApp(
        title="paramcast",
        version=__version__,
        lifespan=lifespan,
        middleware=[Middleware(LimitedBodies)],
        # FastAPI's pages of the API load scripts of other origins, which could read operators' tokens.
        docs_url=None,
        redoc_url=None,
    )
    app.service = service
    app.patience = Patience()
    app.adapt = AdaptRoute(service, batcher, metrics, key, screen)
    viewers = service.database.for_viewers()
    app.live = Live(viewers, metrics, lambda: batcher.waiting)
    inspection = Inspection(viewers, service.models.store, metrics)
    # `CloudApp` leaves methods other than POST to FastAPI, which answers them by this route.
    app.router.routes.append(Route(PATH, app.adapt, methods=["POST"]))

    health = Health(service, batcher)

    @app.get("/healthz", responses={503: {"description": "a model cannot make parameters"}})
    async def healthz() -> JSONResponse:
        """Report ok only if updates can be generated now; otherwise this process should be restarted."""
        if await health.model.verdict():
            return JSONResponse({"status": "failing"}, status_code=503)
        return JSONResponse({"status": "ok", "model": service.describe()["model"]})

    @app.get("/readyz", responses={503: {"description": "requests should go elsewhere for now"}})
    async def readyz() -> JSONResponse:
        """Report ready only if a request would be answered now; checks the model, the state and the queue."""
        why = "the queue is full" if batcher.full else await health.model.verdict()
        why = why or await health.state.verdict()
        if why is not None:
            return JSONResponse({"status": "not ready", "error": why}, status_code=503)
        # Faults in a state that works are no reason to send requests elsewhere. They are only reported.
        return JSONResponse({"status": "ready", "faults": len(inspection.faults)})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures() -> Response:
        """Return the metrics of the service in the text format of Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/model", responses={503: {"description": "no model is in service yet"}})
    async def describe(model: str | None = None) -> JSONResponse:
        """Describe the base model `model` if it is served, else another one; includes the signing key."""
        try:
            return JSONResponse(service.describe(model))
        except InputError as problem:
            return error(503, str(problem), LATER)

    app.include_router(fleet_routes(service, public_key_hex(key), metrics))
    app.include_router(operator_routes(service))
    app.include_router(dashboard_routes(viewers, app.live))
    app.include_router(
        bundle_routes(lambda: [*bundles, *(one.bundle for one in service.models.serving if one.bundle)])
    )
    app.include_router(page_routes())
    add_error_handlers(app, key)
    return app
