"""The HTTP side of the service."""

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
from starlette.types import ASGIApp, Receive, Scope, Send

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


class CloudApp(FastAPI):
    """FastAPI, with a short way to the one route that is asked all the time.

    Attributes:
        service: What answers.
        patience: How long unsigned requests wait that come too fast, other than those that are served.
        adapt: That route.
        live: The streams of those who watch.
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
        if not any(name == b"authorization" for name, _ in scope["headers"]) and (
            scope["path"] != PATH or self.service.gate.required
        ):
            client = scope.get("client")
            await asyncio.sleep(self.patience.wait_s(client[0] if client else ""))
        if scope["path"] == PATH and scope["method"] == "POST":
            await self.adapt(scope, receive, secured)
        else:
            await super().__call__(scope, receive, secured)

    def openapi(self) -> dict[str, Any]:
        """The schema, with the route that FastAPI does not know."""
        schema = super().openapi()
        schema["paths"][PATH] = {"post": OPERATION}
        return schema


class PublicApp:
    """What devices need of the service, and nothing for operators: for an address that strangers reach."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say that there is no such route."""
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
    """The service for one model, or for several.

    Args:
        models: Make the parameters.
        key: Signs the packages.
        lifetime_s: Seconds after which a package may no longer be taken up.
        quantization: `fp32`, `fp16`, `int8` or `int4`.
        database: The state; without it the service forgets its devices with the process.
        gate: Who is let in; without it everybody is, but under the name of an enrolled device.
        largest_batch: Requests that are generated together.
        waiting_room: Requests that may wait: 512 are half a second of work, and 128 MB if all are as large
            as they may be.
        keep_s: Seconds for which packages and feedback stay on record.
        bundles: What the page at `/` may load, beside what belongs to the models.
        tracing: Traces batches; without it they are not traced.
        delegation: The root's word for `key`, if the fleet has a root.

    Raises:
        InputError: If the lifetime or the quantization is not possible, or the delegation not for this key.
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
    # Looking at a signature takes a tenth of what making parameters does; connections bound who waits for it.
    screen: Batcher[Claim, str | None] = Batcher(service.screen, largest=128, room=8 * waiting_room)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Keep the garbage collector off what is loaded once: looking through it takes a tenth of a second.
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
        # FastAPI's pages of the API load scripts of other origins, where operators' tokens lie.
        docs_url=None,
        redoc_url=None,
    )
    app.service = service
    app.patience = Patience()
    app.adapt = AdaptRoute(service, batcher, metrics, key, screen)
    viewers = service.database.for_viewers()
    app.live = Live(viewers, metrics, lambda: batcher.waiting)
    inspection = Inspection(viewers, service.models.store, metrics)
    # For other methods than POST, which `CloudApp` leaves to FastAPI.
    app.router.routes.append(Route(PATH, app.adapt, methods=["POST"]))

    health = Health(service, batcher)

    @app.get("/healthz", responses={503: {"description": "a model cannot make parameters"}})
    async def healthz() -> JSONResponse:
        """Say ok only if packages can be made now: else this process should be started anew."""
        if await health.model.verdict():
            return JSONResponse({"status": "failing"}, status_code=503)
        return JSONResponse({"status": "ok", "model": service.describe()["model"]})

    @app.get("/readyz", responses={503: {"description": "requests should go elsewhere for now"}})
    async def readyz() -> JSONResponse:
        """Say ready only if a request that came now would be answered: model, state and queue."""
        why = "the queue is full" if batcher.full else await health.model.verdict()
        why = why or await health.state.verdict()
        if why is not None:
            return JSONResponse({"status": "not ready", "error": why}, status_code=503)
        # What is wrong with a state that answers is no reason to send requests elsewhere: it is shown.
        return JSONResponse({"status": "ready", "faults": len(inspection.faults)})

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
    app.include_router(dashboard_routes(viewers, app.live))
    app.include_router(
        bundle_routes(lambda: [*bundles, *(one.bundle for one in service.models.serving if one.bundle)])
    )
    app.include_router(page_routes())
    add_error_handlers(app, key)
    return app
