"""`POST /v1/adapt` directly on ASGI: FastAPI's handling of a request would take longer than the model."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from paramcast.protocol import MAX_REQUEST_BYTES, SigningKey
from paramcast.protocol.notice import NOTICE_HEADER
from paramcast.server.answers import BodyTooLargeError, answer_to
from paramcast.server.asked import Answer, Asked
from paramcast.server.batching import Batcher
from paramcast.server.metrics import Metrics
from paramcast.server.notices import RecalledError
from paramcast.server.request_guard import Claim, read_credentials
from paramcast.server.service import AdaptService

PATH = "/v1/adapt"
BINARY = "application/octet-stream"

_TEXT = {"schema": {"type": "string"}}
_CONTENT = {BINARY: {"schema": {"type": "string", "format": "binary"}}}
_LATER = {"schema": {"type": "integer"}, "description": "seconds"}
OPERATION: dict[str, Any] = {
    "summary": "Adapt",
    "description": "Turn a device's request (safetensors) into a sealed package.",
    "operationId": "adapt_v1_adapt_post",
    "parameters": [
        {"name": "authorization", "in": "header", "description": "signs the request", **_TEXT},
        {"name": "if-none-match", "in": "header", "description": "`etag` of the package it has", **_TEXT},
    ],
    "requestBody": {"required": True, "content": _CONTENT},
    "responses": {
        "200": {
            "content": _CONTENT,
            "description": "a sealed package",
            "headers": {"etag": _TEXT, NOTICE_HEADER: _TEXT},
        },
        "304": {"description": "a new package would equal the last one"},
        "401": {"description": "the signature is missing, wrong, too old or used; `code` says which"},
        "409": {"description": "the device runs another base model, or must run its base model"},
        "413": {"description": f"the request has more than {MAX_REQUEST_BYTES} bytes"},
        "422": {"description": "the request is malformed"},
        "429": {"description": "too many requests", "headers": {"retry-after": _LATER}},
        "500": {"description": "the model failed"},
        "503": {"description": "the state cannot be written", "headers": {"retry-after": _LATER}},
    },
}
"""Description of the route in the OpenAPI schema."""


class AdaptRoute:
    """An ASGI application of one route.

    Requests that will not be served are refused as early as possible, before they take a place in the queue.
    If the service serves only enrolled devices, it refuses unsigned requests as soon as it has their head.
    The signature and rate of signed requests are checked in a separate queue.
    """

    def __init__(
        self,
        service: AdaptService,
        batcher: Batcher[Asked, Answer],
        metrics: Metrics,
        key: SigningKey,
        screen: Batcher[Claim, str | None],
    ) -> None:
        """Answer with the outcomes of `batcher`; `key` signs the time for devices with a wrong clock.

        `screen` finds the key that signed a request.
        """
        self._service, self._batcher, self._metrics, self._key = service, batcher, metrics, key
        self._screen = screen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begin, status = time.perf_counter(), 500
        try:
            credentials = read_credentials(_header(scope, b"authorization"))
            self._service.gate.check_signed(credentials)
            address = f"address {scope['client'][0]}" if scope.get("client") else "address"
            if credentials is None:
                self._batcher.check_room(address)
            body = await _body(receive)
            asked = self._service.read(body, credentials, _header(scope, b"if-none-match"))
            line = address
            if credentials is not None and asked.claim is not None:
                key = await self._screen.ask(asked.claim, address)
                asked = replace(asked, claim=replace(asked.claim, key=key))
                line = f"device {credentials.device}"
            answer = await self._batcher.ask(asked, line)
            status = 304 if answer.data is None else 200
            await _send(send, status, answer, self._service.notices.of(asked.request.model))
            self._metrics.count_answer(len(body), len(answer.data or b""))
        except ClientDisconnect:
            status = 499  # nginx's status: the client has closed the connection
        except Exception as problem:
            response = answer_to(problem, self._key)
            if isinstance(problem, RecalledError):
                notice = self._service.notices.of(problem.model)
                response.headers[NOTICE_HEADER] = urlsafe_b64encode(notice or b"").decode()
            status = response.status_code
            await response(scope, receive, send)
        finally:
            self._metrics.answers[status].inc()
            self._metrics.latency.observe(time.perf_counter() - begin)


async def _body(receive: Receive) -> bytes:
    """Read the body; stop as soon as it exceeds the limit."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_REQUEST_BYTES:
            raise BodyTooLargeError
    return bytes(body)


def _header(scope: Scope, name: bytes) -> str | None:
    value = next((value for key, value in scope["headers"] if key == name), None)
    return None if value is None else value.decode("latin-1")


async def _send(send: Send, status: int, answer: Answer, notice: bytes | None) -> None:
    headers = [(b"etag", f'"{answer.tag}"'.encode())]
    if notice is not None:
        headers.append((NOTICE_HEADER.encode(), urlsafe_b64encode(notice)))
    if answer.data is not None:
        length = str(len(answer.data)).encode()
        headers += [(b"content-type", BINARY.encode()), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.data or b""})
