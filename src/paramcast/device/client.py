"""HTTP client of the cloud. It retries while the cloud cannot be reached, and checks every answer."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx2

from paramcast.device.core import DeviceCore
from paramcast.device.errors import CloudError, DeviceInputError
from paramcast.device.exchange import (
    MAX_JSON_BYTES,
    Body,
    Call,
    Keys,
    Reply,
    Retries,
    json_object,
    lost,
    notice_in,
)
from paramcast.device.identity import DeviceIdentity
from paramcast.protocol import (
    MAX_PACKAGE_BYTES,
    AdaptRequest,
    BadSignature,
    Package,
    PackageError,
    new_nonce,
)
from paramcast.protocol.limits import MAX_NOTICE_BYTES


class BaseClient:
    """Common part of the two clients."""

    def __init__(
        self, url: str, timeout_s: float, identity: DeviceIdentity | None, tls: ssl.SSLContext | None
    ) -> None:
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise DeviceInputError(f"{url!r} is no URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise DeviceInputError(f"{url!r} is no URL of a cloud; it looks like http://host:port")
        self.url = url.rstrip("/")
        self._identity = identity
        self._tags: dict[tuple[str, str], tuple[int, str]] = {}
        self._notices: dict[str, bytes] = {}
        self._timeout_s = timeout_s
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": httpx2.Timeout(timeout_s, connect=min(5.0, timeout_s)),
            # Packages do not compress, and a compressed answer could expand to any size.
            "headers": {"accept-encoding": "identity"},
        }
        if tls is not None:
            self._options["verify"] = tls

    def _headers(self, call: Call) -> tuple[dict[str, str], str]:
        """Return a call's headers and the nonce of their signature; '' without an identity or a body."""
        if self._identity is None or call.body is None:
            return dict(call.headers), ""
        nonce = new_nonce()
        signed = self._identity.sign(call.method, call.path, call.body, nonce)
        return {**call.headers, "authorization": signed}, nonce

    def _adapt_call(self, request: AdaptRequest, tag: str | None = None) -> Call:
        headers = {"if-none-match": tag} if tag else {}
        return Call("POST", "/v1/adapt", request.encode(), MAX_PACKAGE_BYTES, headers, request.model)

    def _notice_call(self, runtime: DeviceCore) -> Call:
        return Call("GET", f"/v1/notice/{runtime.model}", limit=MAX_NOTICE_BYTES)

    def _noted(self, call: Call, reply: Reply) -> Reply:
        """Keep the notice of a reply until the device of this base model takes it; return the reply."""
        if call.model and (data := notice_in(reply.headers)) is not None:
            self._notices[call.model] = data
        return reply

    def _notice_of(self, reply: Reply) -> bytes | None:
        """Return the notice of a reply to `_notice_call`; None where the cloud gives none."""
        if reply.status == 200:
            return reply.data
        if reply.status == 404:  # the cloud is older than notices, or serves another base model
            return None
        raise CloudError(f"no notice from the cloud at {self.url}: {reply.problem or reply.status}")

    def _meet(self, runtime: DeviceCore) -> None:
        """Let the identity trust only the keys that the root of `runtime` delegates."""
        if self._identity is not None and runtime.root is not None:
            with suppress(OSError):
                self._identity.pin_root(runtime.root)

    def _model_call(self, runtime: DeviceCore) -> Call:
        return Call("GET", f"/v1/model?model={runtime.model}", limit=MAX_JSON_BYTES)

    def _tag(self, runtime: DeviceCore) -> str | None:
        """Return the tag of the package that `runtime` runs, if this client has fetched it."""
        sequence, tag = self._tags.get((runtime.device_id, runtime.model), (0, ""))
        return tag if sequence and sequence == runtime.status()["sequence"] else None

    def _applied(self, runtime: DeviceCore, reply: Reply, links: bytes | None = None) -> Package:
        """Take up the package of a reply, after `runtime` has followed `links` (if any) to the newest key."""
        if links is not None:
            follow_links(runtime, links)
        package = runtime.apply(reply.data)
        tag = reply.headers.get("etag", "")
        self._tags[runtime.device_id, runtime.model] = (package.sequence, tag)
        return package

    def _pin(self, runtime: DeviceCore, data: bytes) -> None:
        """Pin the key from the answer of `/v1/model`, if the cloud adapts the runtime's model."""
        described = json_object(data)
        if described.get("model") != runtime.model:
            raise CloudError(
                f"the cloud at {self.url} adapts base model {str(described.get('model'))[:64]}, "
                f"this device runs {runtime.model}"
            )
        # An enrolled device has known its cloud's key since it enrolled; that key endorses later ones.
        enrolled = self._identity.cloud_key if self._identity and runtime.public_key is None else None
        runtime.trust(enrolled or str(described.get("public_key")))

    def _enrolment_call(self, identity: DeviceIdentity, token: str) -> Call:
        return _json_call("/v1/enrol", identity.enrolment(token))

    def _know_keys(self, reply: Reply) -> None:
        """Let the identity trust the cloud's newest key, if the endorsements in `reply` lead to that key.

        Where they do not, nothing changes, and the refusal that made the client ask for the keys stays.
        """
        if self._identity is not None and reply.status == 200:
            with suppress(CloudError, BadSignature, OSError):
                self._identity.follow(*Keys.read(reply.data))

    def _own(self) -> DeviceIdentity:
        if self._identity is None:
            raise DeviceInputError("this needs an enrolled device: CloudClient(url, identity=...)")
        return self._identity


class CloudClient(BaseClient):
    """Connection to a cloud, for synchronous code. Use it in a `with` block, or call `close`."""

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        *,
        identity: DeviceIdentity | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a client of the cloud at `url`.

        Args:
            url: URL of the cloud, http or https.
            timeout_s: Longest duration of one attempt, in seconds.
            identity: Identity of an enrolled device, with which requests are signed; None for no signature.
            tls: The authorities to trust and a client certificate; None for the system's authorities and no
                certificate.

        Raises:
            DeviceInputError: `url` is no http or https URL.
        """
        super().__init__(url, timeout_s, identity, tls)
        self._http = httpx2.Client(**self._options)

    def adapt(self, runtime: DeviceCore) -> Package:
        """Request a package for `runtime` and take it up; the cloud's key is trusted on first use.

        Raises:
            CloudError: The cloud cannot be reached or refuses.
            PackageError: The package may not be run.
            DeviceInputError: The runtime has not observed any example.
        """
        request = runtime.request()
        if runtime.public_key is None:
            self.trust(runtime)
        try:
            return self._take(runtime, self._send(self._adapt_call(request)))
        finally:
            self._heed_what_came(runtime)

    def refresh(self, runtime: DeviceCore) -> Package | None:
        """Request a package as `adapt` does; None if the cloud would make the same package again.

        The package is the same while the observed examples and the cloud's model are the same, and less than
        half of the package's lifetime is over. The cloud then sends no package.
        """
        request = runtime.request()
        if runtime.public_key is None:
            self.trust(runtime)
        try:
            reply = self._send(self._adapt_call(request, self._tag(runtime)))
            return None if reply.status == 304 else self._take(runtime, reply)
        finally:
            self._heed_what_came(runtime)

    def heed(self, runtime: DeviceCore, fresh: bool = True) -> bool:
        """Give `runtime` the cloud's notice of the recalled packages.

        Args:
            runtime: The device.
            fresh: Ask the cloud for the notice, once; else take the notice of the last answer, if it had one.

        Returns:
            Whether another package, or the base model, runs because of the notice.

        Raises:
            CloudError: The cloud cannot be reached.
            PackageError: The notice is not valid, or is older than one that was taken.
        """
        self._meet(runtime)
        data = self._notices.pop(runtime.model, None)
        if fresh:
            data = self._notice_of(self._attempt(self._notice_call(runtime)))
        return data is not None and take_notice(self, runtime, data)

    def _heed_what_came(self, runtime: DeviceCore) -> None:
        """Take the notice of an answer and suppress its errors: the caller did not ask for the notice."""
        with suppress(CloudError, PackageError):
            self.heed(runtime, fresh=False)

    def _take(self, runtime: DeviceCore, reply: Reply) -> Package:
        try:
            return self._applied(runtime, reply)
        except BadSignature:
            links = self._send(KEYS)
            self._know_keys(links)
            return self._applied(runtime, reply, links.data)

    def enrol(self, token: str, folder: Path | str, device: str) -> DeviceIdentity:
        """Enroll a device with a one-time token. From then on this client signs requests for the device.

        Args:
            token: Token from `paramcast enroll`.
            folder: Folder for the device's key; it may hold the key of an earlier attempt.
            device: The device's id.

        Raises:
            CloudError: The cloud cannot be reached or does not accept the token.
            DeviceInputError: The id is malformed or the folder is in use.
        """
        identity = DeviceIdentity.prepare(folder, device)
        reply = self._send(self._enrolment_call(identity, token))
        told = json_object(reply.data)
        identity.enrolled(told.get("public_key"), told.get("root"))
        self._identity = identity
        return identity

    def rotate_key(self) -> None:
        """Give the enrolled device a new key. Call it again if it failed or was interrupted.

        Raises:
            CloudError: The cloud cannot be reached or refuses.
            DeviceInputError: The client has no identity of an enrolled device.
        """
        key, body = self._own().next_key()
        self._send(_json_call("/v1/key", body))
        self._own().rotated(key)

    def report(
        self,
        sequence: int,
        *,
        applied: bool,
        gain: float | None = None,
        reason: str | None = None,
        user: str | None = None,
    ) -> None:
        """Report to the cloud whether a package runs, and its gain in percentage points.

        The cloud keeps the first report of each package that it has sent to the device or to its `user`.

        Raises:
            CloudError: The cloud cannot be reached or refuses.
            DeviceInputError: The client has no identity of an enrolled device.
        """
        self._own()
        told = {"sequence": sequence, "applied": applied, "gain": gain, "reason": reason}
        if user is not None:
            told["user"] = user
        self._send(_json_call("/v1/feedback", told))

    def trust(self, runtime: DeviceCore) -> None:
        """Fetch the cloud's key and let `runtime` trust it.

        With a root, `runtime` trusts the key that the root delegates. Without a root, it pins the key.

        Raises:
            CloudError: The cloud cannot be reached, adapts another model or has changed its key.
            BadSignature: The root has not delegated the key.
        """
        if runtime.root is not None:
            self.follow(runtime)
        else:
            self._pin(runtime, self._send(self._model_call(runtime)).data)

    def follow(self, runtime: DeviceCore) -> None:
        """Let `runtime` trust the cloud's newest key, if its root or its trusted key has signed that key.

        Raises:
            CloudError: The cloud cannot be reached, or its answer is no chain of keys.
            BadSignature: The delegation or an endorsement has no valid signature.
        """
        self._meet(runtime)
        follow_links(runtime, self._send(KEYS).data)

    def exchange(self, request: AdaptRequest) -> bytes:
        """Send a request and return the sealed package without a check.

        Raises:
            CloudError: The cloud cannot be reached or refuses.
        """
        return self._send(self._adapt_call(request)).data

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> CloudClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call) -> Reply:
        retries = Retries(self.url, self._identity)
        while True:
            reply = self._noted(call, self._attempt(call))
            if retries.needs_keys(reply):
                self._know_keys(self._attempt(KEYS))
            wait_s = retries.wait_s(reply)
            if wait_s is None:
                return reply
            _sleep(wait_s)

    def _attempt(self, call: Call) -> Reply:
        body = Body(call.limit, self._timeout_s)
        headers, nonce = self._headers(call)
        try:
            with self._http.stream(call.method, call.path, content=call.body, headers=headers) as response:
                for chunk in response.iter_raw():
                    body.add(chunk)
                return body.reply(response, nonce)
        except httpx2.TransportError as error:
            return lost(error)


KEYS = Call("GET", "/v1/keys")


def _json_call(path: str, body: Mapping[str, Any]) -> Call:
    headers = {"content-type": "application/json"}
    return Call("POST", path, json.dumps(body).encode(), MAX_JSON_BYTES, headers)


class _Follows(Protocol):
    """Client that can fetch the cloud's keys."""

    def trust(self, runtime: DeviceCore) -> None: ...

    def follow(self, runtime: DeviceCore) -> None: ...


def take_notice(cloud: _Follows, runtime: DeviceCore, data: bytes) -> bool:
    """Give `runtime` a notice as `CloudClient.heed` does; `cloud` fetches the newest key if it is needed."""
    if runtime.public_key is None:
        cloud.trust(runtime)
    try:
        return runtime.heed(data)
    except BadSignature:
        cloud.follow(runtime)
        return runtime.heed(data)


def follow_links(runtime: DeviceCore, links: bytes) -> None:
    """Let `runtime` trust the cloud's newest key, if the root or the endorsements in `links` allow it."""
    runtime.follow(*Keys.read(links))


def _sleep(seconds: float) -> None:
    time.sleep(seconds)
