"""The HTTP side of the service: three routes, one JSON form for errors."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from paramcast import __version__
from paramcast.cloud.service import AdaptBackend, AdaptService, BackendError, WrongModelError
from paramcast.wire import MAX_REQUEST_BYTES, MessageError, SigningKey

BINARY = "application/octet-stream"
_log = logging.getLogger(__name__)

_BINARY_BODY = {
    "requestBody": {"required": True, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}
}
_ADAPT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {BINARY: {}}, "description": "a sealed package"},
    409: {"description": "the device runs another base model"},
    413: {"description": f"the request has more than {MAX_REQUEST_BYTES} bytes"},
    422: {"description": "the request is malformed"},
    500: {"description": "the model failed"},
}


class _BodyTooLarge(Exception):
    """The body is over the limit."""


def create_app(
    backend: AdaptBackend, key: SigningKey, *, lifetime_s: int = 7 * 86400, quantisation: str = "int8"
) -> FastAPI:
    """The service for one model.

    Args:
        backend: Makes the parameters.
        key: Signs the packages.
        lifetime_s: Seconds after which a package may no longer be taken up.
        quantisation: `fp32`, `fp16` or `int8`.

    Raises:
        InputError: If the lifetime or the quantisation is not possible.
    """
    service = AdaptService(backend, key, lifetime_s=lifetime_s, quantisation=quantisation)
    app = FastAPI(title="paramcast", version=__version__)

    @app.post("/v1/adapt", response_class=Response, responses=_ADAPT_RESPONSES, openapi_extra=_BINARY_BODY)
    async def adapt(request: Request) -> Response:
        """Turn a device's request (safetensors) into a sealed package."""
        body = await _read_body(request)
        # In a thread, so that the loop goes on answering while a model works.
        return Response(await run_in_threadpool(service.adapt, body), media_type=BINARY)

    @app.get("/healthz", responses={503: {"description": "the model cannot make parameters"}})
    async def healthz() -> JSONResponse:
        """Say ok only if the model makes finite parameters now."""
        try:
            await run_in_threadpool(service.check_health)
        except BackendError as error:
            _log.error("health check: %s", error)
            return JSONResponse({"status": "failing"}, status_code=503)
        return JSONResponse({"status": "ok", "model": backend.model})

    @app.get("/v1/model")
    async def model() -> JSONResponse:
        """The model served here and the key that signs its packages."""
        return JSONResponse(service.describe())

    _add_error_handlers(app)
    return app


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

    @app.exception_handler(BackendError)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        _log.error("adapt: %s", error, exc_info=error)
        return _error(500, "the model failed on this request; the service's log says why")


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)
