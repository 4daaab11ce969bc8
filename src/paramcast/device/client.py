"""Talking to the cloud over HTTP: patient with a cloud that is away, strict with what it answers."""

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
    """What the two clients share."""

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
            # Packages do not compress, and a compressed answer could unfold to any size.
            "headers": {"accept-encoding": "identity"},
        }
        if tls is not None:
            self._options["verify"] = tls

    def _headers(self, call: Call) -> tuple[dict[str, str], str]:
        """The headers of one sending, signed if the device is enrolled, and the nonce of the signature."""
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
        """Keep the notice that came with a reply, until the device of this base model takes it."""
        if call.model and (data := notice_in(reply.headers)) is not None:
            self._notices[call.model] = data
        return reply

    def _notice_of(self, reply: Reply) -> bytes | None:
        """The notice of a reply to `_notice_call`; None where the cloud gives none."""
        if reply.status == 200:
            return reply.data
        if reply.status == 404:  # of before notices, or it serves another base model
            return None
        raise CloudError(f"no notice from the cloud at {self.url}: {reply.problem or reply.status}")

    def _meet(self, runtime: DeviceCore) -> None:
        """Have the identity believe the keys that the root of `runtime` delegates, and no others."""
        if self._identity is not None and runtime.root is not None:
            with suppress(OSError):
                self._identity.pin_root(runtime.root)

    def _model_call(self, runtime: DeviceCore) -> Call:
        return Call("GET", f"/v1/model?model={runtime.model}", limit=MAX_JSON_BYTES)

    def _tag(self, runtime: DeviceCore) -> str | None:
        """The tag of the package that `runtime` runs, if it came over this client."""
        sequence, tag = self._tags.get((runtime.device_id, runtime.model), (0, ""))
        return tag if sequence and sequence == runtime.status()["sequence"] else None

    def _applied(self, runtime: DeviceCore, reply: Reply, links: bytes | None = None) -> Package:
        """Take up the package of a reply, with the key that `links` lead to if the trusted one is old."""
        if links is not None:
            follow_links(runtime, links)
        package = runtime.apply(reply.data)
        tag = reply.headers.get("etag", "")
        self._tags[runtime.device_id, runtime.model] = (package.sequence, tag)
        return package

    def _pin(self, runtime: DeviceCore, data: bytes) -> None:
        """Pin the key that `/v1/model` gave, if the cloud adapts the runtime's model at all."""
        described = json_object(data)
        if described.get("model") != runtime.model:
            raise CloudError(
                f"the cloud at {self.url} adapts base model {str(described.get('model'))[:64]}, "
                f"this device runs {runtime.model}"
            )
        # An enrolled device has known its cloud's key since then; a later one is endorsed by it.
        enrolled = self._identity.cloud_key if self._identity and runtime.public_key is None else None
        runtime.trust(enrolled or str(described.get("public_key")))

    def _enrolment_call(self, identity: DeviceIdentity, token: str) -> Call:
        return _json_call("/v1/enrol", identity.enrolment(token))

    def _know_keys(self, reply: Reply) -> None:
        """Have the identity believe the cloud's newest key, if the endorsements in `reply` lead there.

        Where they do not, the refusal that made it ask stands.
        """
        if self._identity is not None and reply.status == 200:
            with suppress(CloudError, BadSignature, OSError):
                self._identity.follow(*Keys.read(reply.data))

    def _own(self) -> DeviceIdentity:
        if self._identity is None:
            raise DeviceInputError("this needs an enrolled device: CloudClient(url, identity=...)")
        return self._identity


class CloudClient(BaseClient):
    """A connection to a cloud for ordinary code. Use it in a `with` block, or call `close`."""

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        *,
        identity: DeviceIdentity | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare to talk to the cloud at `url`.

        Args:
            url: http or https.
            timeout_s: Seconds that one attempt may last.
            identity: Of an enrolled device: its requests are then signed.
            tls: Whom to trust, and a certificate to show; else the system's authorities, and none.

        Raises:
            DeviceInputError: If `url` is no http or https URL.
        """
        super().__init__(url, timeout_s, identity, tls)
        self._http = httpx2.Client(**self._options)

    def adapt(self, runtime: DeviceCore) -> Package:
        """Have parameters made for `runtime` and take them up; trusts the cloud's key on first use.

        Raises:
            CloudError: If the cloud cannot be reached or refuses.
            PackageError: If the package may not be run.
            DeviceInputError: If the runtime has not observed any example.
        """
        request = runtime.request()
        if runtime.public_key is None:
            self.trust(runtime)
        try:
            return self._take(runtime, self._send(self._adapt_call(request)))
        finally:
            self._heed_what_came(runtime)

    def refresh(self, runtime: DeviceCore) -> Package | None:
        """As `adapt`, unless the same package would be made again, which is then not sent: None.

        That is so while what the device has observed and the cloud's model are the same, and less than half
        of the package's life is over.
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
        """Have `runtime` take the cloud's notice of what is called back.

        Args:
            runtime: The device.
            fresh: Ask for it, once; else take the one that came with the last answer, if one did.

        Returns:
            Whether another package, or the base model, runs because of it.

        Raises:
            CloudError: If the cloud cannot be reached.
            PackageError: If the notice may not be believed.
        """
        self._meet(runtime)
        data = self._notices.pop(runtime.model, None)
        if fresh:
            data = self._notice_of(self._attempt(self._notice_call(runtime)))
        return data is not None and take_notice(self, runtime, data)

    def _heed_what_came(self, runtime: DeviceCore) -> None:
        """Take the notice of an answer; what is wrong with it is not what the caller asked for."""
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
        """Enrol a device with a one-time token; this client signs for it from then on.

        Args:
            token: What `paramcast enroll` gave.
            folder: For the device's key; may hold that of a try before.
            device: The device's id.

        Raises:
            CloudError: If the cloud cannot be reached or does not take the token.
            DeviceInputError: If the id is malformed or the folder is in use.
        """
        identity = DeviceIdentity.prepare(folder, device)
        reply = self._send(self._enrolment_call(identity, token))
        told = json_object(reply.data)
        identity.enrolled(told.get("public_key"), told.get("root"))
        self._identity = identity
        return identity

    def rotate_key(self) -> None:
        """Give the enrolled device a new key. May be repeated if it failed or was cut off.

        Raises:
            CloudError: If the cloud cannot be reached or refuses.
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
        """Tell the cloud what came of a package: whether it runs, and what it gained, in percentage points.

        The cloud keeps the first report of each package that it has given to the device, or to its `user`.

        Raises:
            CloudError: If the cloud cannot be reached or refuses.
        """
        self._own()
        told = {"sequence": sequence, "applied": applied, "gain": gain, "reason": reason}
        if user is not None:
            told["user"] = user
        self._send(_json_call("/v1/feedback", told))

    def trust(self, runtime: DeviceCore) -> None:
        """Fetch the cloud's key; `runtime` pins it if it knows none yet, or has its root say which it is.

        Raises:
            CloudError: If the cloud cannot be reached, adapts another model or changed its key.
            BadSignature: If the root has not delegated the key.
        """
        if runtime.root is not None:
            self.follow(runtime)
        else:
            self._pin(runtime, self._send(self._model_call(runtime)).data)

    def follow(self, runtime: DeviceCore) -> None:
        """Have `runtime` trust the cloud's newest key, if its root, or the key that it trusts, says so.

        Raises:
            CloudError: If the cloud cannot be reached, or its answer is no chain of keys.
            BadSignature: If what says so is not signed.
        """
        self._meet(runtime)
        follow_links(runtime, self._send(KEYS).data)

    def exchange(self, request: AdaptRequest) -> bytes:
        """Send a request, return the sealed package unchecked.

        Raises:
            CloudError: If the cloud cannot be reached or refuses.
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
    """What knows the cloud's keys."""

    def trust(self, runtime: DeviceCore) -> None: ...

    def follow(self, runtime: DeviceCore) -> None: ...


def take_notice(cloud: _Follows, runtime: DeviceCore, data: bytes) -> bool:
    """Have `runtime` take a notice, by the cloud's newest key if it needs that; as `CloudClient.heed`."""
    if runtime.public_key is None:
        cloud.trust(runtime)
    try:
        return runtime.heed(data)
    except BadSignature:
        cloud.follow(runtime)
        return runtime.heed(data)


def follow_links(runtime: DeviceCore, links: bytes) -> None:
    """Have `runtime` trust the cloud's newest key, if its root or the endorsements in `links` say so."""
    runtime.follow(*Keys.read(links))


def _sleep(seconds: float) -> None:
    time.sleep(seconds)
