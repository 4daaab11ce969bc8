"""HTTP client of the cloud for asyncio code."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType

import httpx2

from paramcast.device.client import KEYS, BaseClient, follow_links
from paramcast.device.core import DeviceCore
from paramcast.device.errors import CloudError
from paramcast.device.exchange import Body, Call, Reply, Retries, lost
from paramcast.device.identity import DeviceIdentity
from paramcast.protocol import AdaptRequest, BadSignature, Package, PackageError


class AsyncCloudClient(BaseClient):
    """`CloudClient` for asyncio code. Use it in an `async with` block, or await `close`."""

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        *,
        identity: DeviceIdentity | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a client; see `CloudClient`."""
        super().__init__(url, timeout_s, identity, tls)
        self._http = httpx2.AsyncClient(**self._options)

    async def adapt(self, runtime: DeviceCore) -> Package:
        """Request a package and take it up as `CloudClient.adapt` does; a thread checks and tries it."""
        request = runtime.request()
        if runtime.public_key is None:
            await self.trust(runtime)
        try:
            return await self._take(runtime, await self._send(self._adapt_call(request)))
        finally:
            await self._heed_what_came(runtime)

    async def refresh(self, runtime: DeviceCore) -> Package | None:
        """Request a package unless it would be the same again; see `CloudClient.refresh`."""
        request = runtime.request()
        if runtime.public_key is None:
            await self.trust(runtime)
        try:
            reply = await self._send(self._adapt_call(request, self._tag(runtime)))
            return None if reply.status == 304 else await self._take(runtime, reply)
        finally:
            await self._heed_what_came(runtime)

    async def heed(self, runtime: DeviceCore, fresh: bool = True) -> bool:
        """Take the cloud's notice; see `CloudClient.heed`."""
        self._meet(runtime)
        data = self._notices.pop(runtime.model, None)
        if fresh:
            data = self._notice_of(await self._attempt(self._notice_call(runtime)))
        if data is None:
            return False
        if runtime.public_key is None:
            await self.trust(runtime)
        try:
            return await asyncio.to_thread(runtime.heed, data)
        except BadSignature:
            await self.follow(runtime)
            return await asyncio.to_thread(runtime.heed, data)

    async def _heed_what_came(self, runtime: DeviceCore) -> None:
        with suppress(CloudError, PackageError):
            await self.heed(runtime, fresh=False)

    async def _take(self, runtime: DeviceCore, reply: Reply) -> Package:
        try:
            return await asyncio.to_thread(self._applied, runtime, reply)
        except BadSignature:
            links = await self._send(KEYS)
            self._know_keys(links)
            return await asyncio.to_thread(self._applied, runtime, reply, links.data)

    async def trust(self, runtime: DeviceCore) -> None:
        """Fetch the cloud's key and trust it; see `CloudClient.trust`."""
        if runtime.root is not None:
            await self.follow(runtime)
        else:
            self._pin(runtime, (await self._send(self._model_call(runtime))).data)

    async def follow(self, runtime: DeviceCore) -> None:
        """Trust the cloud's newest key; see `CloudClient.follow`."""
        self._meet(runtime)
        follow_links(runtime, (await self._send(KEYS)).data)

    async def exchange(self, request: AdaptRequest) -> bytes:
        """Send a request; see `CloudClient.exchange`."""
        return (await self._send(self._adapt_call(request))).data

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncCloudClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call) -> Reply:
        retries = Retries(self.url, self._identity)
        while True:
            reply = self._noted(call, await self._attempt(call))
            if retries.needs_keys(reply):
                self._know_keys(await self._attempt(KEYS))
            wait_s = retries.wait_s(reply)
            if wait_s is None:
                return reply
            await _sleep_async(wait_s)

    async def _attempt(self, call: Call) -> Reply:
        body = Body(call.limit, self._timeout_s)
        headers, nonce = self._headers(call)
        try:
            async with self._http.stream(
                call.method, call.path, content=call.body, headers=headers
            ) as response:
                async for chunk in response.aiter_raw():
                    body.add(chunk)
                return body.reply(response, nonce)
        except httpx2.TransportError as error:
            return lost(error)


async def _sleep_async(seconds: float) -> None:
    await asyncio.sleep(seconds)
