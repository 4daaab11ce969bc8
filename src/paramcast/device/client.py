"""Talking to the cloud over HTTP: patient with a cloud that is away, strict with what it answers."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import httpx2

from paramcast.device.errors import CloudError, DeviceInputError
from paramcast.device.runtime import DeviceRuntime
from paramcast.wire import MAX_PACKAGE_BYTES, AdaptRequest, Package

ATTEMPTS = 4
FIRST_WAIT_S = 0.25  # doubles with every attempt; the real wait is drawn between 0 and that
LONGEST_WAIT_S = 60.0
MAX_JSON_BYTES = 1024 * 1024
_RETRIED = {429, 500, 502, 503, 504}


@dataclass(frozen=True)
class _Call:
    """One exchange with the cloud: what to send and how many bytes may come back."""

    method: str
    path: str
    body: bytes | None
    limit: int


@dataclass(frozen=True)
class _Reply:
    """What came back; without a status if nothing did."""

    status: int | None
    headers: httpx2.Headers
    data: bytes
    problem: str = ""


class _Retries:
    """Decides after each reply: it is good, it is final, or try again after a while."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failed = 0

    def wait_s(self, reply: _Reply) -> float | None:
        """None if `reply` is good, else the seconds to wait before the next attempt.

        Raises:
            CloudError: If another attempt is useless or there were enough.
        """
        if reply.status is not None and 200 <= reply.status < 300:
            return None
        self._failed += 1
        problem = reply.problem or f"status {reply.status}: {_error_text(reply.data)}"
        if reply.status is not None and reply.status not in _RETRIED:
            raise CloudError(f"the cloud at {self._url} refused: {problem}")
        if self._failed >= ATTEMPTS:
            raise CloudError(f"no answer from the cloud at {self._url} in {ATTEMPTS} attempts: {problem}")
        asked = _retry_after_s(reply.headers)
        if asked > LONGEST_WAIT_S:
            raise CloudError(f"the cloud at {self._url} asks to come back in {asked:.0f} s: {problem}")
        # Jitter, so that a fleet that lost its cloud does not come back at one moment.
        return asked + random.uniform(0, FIRST_WAIT_S * 2 ** (self._failed - 1))


class _Body:
    """Collects a reply's bytes, and stops a reply that is too large or drips too slowly."""

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._end = time.monotonic() + timeout_s
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        self._data += chunk
        if len(self._data) > self._limit:
            raise CloudError(f"the cloud's answer has more than {self._limit} bytes")
        if time.monotonic() > self._end:
            raise httpx2.ReadTimeout("the answer took too long")

    def reply(self, response: httpx2.Response) -> _Reply:
        return _Reply(response.status_code, response.headers, bytes(self._data))


class _Client:
    """What the two clients share."""

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise DeviceInputError(f"{url!r} is no URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise DeviceInputError(f"{url!r} is no URL of a cloud; it looks like http://host:port")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": httpx2.Timeout(timeout_s, connect=min(5.0, timeout_s)),
            # Packages do not compress, and a compressed answer could unfold to any size.
            "headers": {"accept-encoding": "identity"},
        }

    def _adapt_call(self, request: AdaptRequest) -> _Call:
        return _Call("POST", "/v1/adapt", request.encode(), MAX_PACKAGE_BYTES)

    def _model_call(self) -> _Call:
        return _Call("GET", "/v1/model", None, MAX_JSON_BYTES)

    def _pin(self, runtime: DeviceRuntime, data: bytes) -> None:
        """Pin the key that `/v1/model` gave, if the cloud adapts the runtime's model at all."""
        described = _json_object(data)
        if described.get("model") != runtime.bundle.model:
            raise CloudError(
                f"the cloud at {self.url} adapts base model {str(described.get('model'))[:64]}, "
                f"this device runs {runtime.bundle.model}"
            )
        runtime.trust(str(described.get("public_key")))


class CloudClient(_Client):
    """A connection to a cloud for ordinary code. Use it in a `with` block, or call `close`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        """Prepare to talk to the cloud at `url`; one attempt may last `timeout_s` seconds.

        Raises:
            DeviceInputError: If `url` is no http or https URL.
        """
        super().__init__(url, timeout_s)
        self._http = httpx2.Client(**self._options)

    def adapt(self, runtime: DeviceRuntime) -> Package:
        """Have parameters made for `runtime` and take them up; trusts the cloud's key on first use.

        Raises:
            CloudError: If the cloud cannot be reached or refuses.
            PackageError: If the package may not be run.
            DeviceInputError: If the runtime has not observed any clip.
        """
        request = runtime.request()
        if runtime.public_key is None:
            self.trust(runtime)
        return runtime.apply(self.exchange(request))

    def trust(self, runtime: DeviceRuntime) -> None:
        """Fetch the cloud's key; `runtime` pins it if it knows none yet.

        Raises:
            CloudError: If the cloud cannot be reached, adapts another model or changed its key.
        """
        self._pin(runtime, self._send(self._model_call()))

    def exchange(self, request: AdaptRequest) -> bytes:
        """Send a request, return the sealed package unchecked.

        Raises:
            CloudError: If the cloud cannot be reached or refuses.
        """
        return self._send(self._adapt_call(request))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> CloudClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: _Call) -> bytes:
        retries = _Retries(self.url)
        while True:
            reply = self._attempt(call)
            wait_s = retries.wait_s(reply)
            if wait_s is None:
                return reply.data
            _sleep(wait_s)

    def _attempt(self, call: _Call) -> _Reply:
        body = _Body(call.limit, self._timeout_s)
        try:
            with self._http.stream(call.method, call.path, content=call.body) as response:
                for chunk in response.iter_raw():
                    body.add(chunk)
                return body.reply(response)
        except httpx2.TransportError as error:
            return _lost(error)


class AsyncCloudClient(_Client):
    """The same for asyncio code. Use it in an `async with` block, or await `close`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        """As `CloudClient`."""
        super().__init__(url, timeout_s)
        self._http = httpx2.AsyncClient(**self._options)

    async def adapt(self, runtime: DeviceRuntime) -> Package:
        """As `CloudClient.adapt`; the package is checked and tried in a thread."""
        request = runtime.request()
        if runtime.public_key is None:
            await self.trust(runtime)
        return await asyncio.to_thread(runtime.apply, await self.exchange(request))

    async def trust(self, runtime: DeviceRuntime) -> None:
        """As `CloudClient.trust`."""
        self._pin(runtime, await self._send(self._model_call()))

    async def exchange(self, request: AdaptRequest) -> bytes:
        """As `CloudClient.exchange`."""
        return await self._send(self._adapt_call(request))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncCloudClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: _Call) -> bytes:
        retries = _Retries(self.url)
        while True:
            reply = await self._attempt(call)
            wait_s = retries.wait_s(reply)
            if wait_s is None:
                return reply.data
            await _sleep_async(wait_s)

    async def _attempt(self, call: _Call) -> _Reply:
        body = _Body(call.limit, self._timeout_s)
        try:
            async with self._http.stream(call.method, call.path, content=call.body) as response:
                async for chunk in response.aiter_raw():
                    body.add(chunk)
                return body.reply(response)
        except httpx2.TransportError as error:
            return _lost(error)


def _lost(error: httpx2.TransportError) -> _Reply:
    return _Reply(None, httpx2.Headers(), b"", f"{type(error).__name__}: {error}")


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CloudError("the cloud's answer is no JSON") from error
    if not isinstance(value, dict):
        raise CloudError("the cloud's answer is no JSON object")
    return value


def _error_text(data: bytes) -> str:
    """The service's own words if these are any, cut to a line."""
    try:
        text = str(_json_object(data).get("error", "no reason given"))
    except CloudError:
        text = "no reason given"
    return " ".join(text.split())[:300]


def _retry_after_s(headers: httpx2.Headers) -> float:
    """Seconds that the cloud asks to wait; 0 if it does not ask, or not in a form that is allowed."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


async def _sleep_async(seconds: float) -> None:
    await asyncio.sleep(seconds)
