"""One exchange with the cloud: the call, the reply, and retries."""

from __future__ import annotations

import json
import random
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx2

from paramcast.device.errors import CloudError
from paramcast.device.identity import DeviceIdentity
from paramcast.protocol import Delegation, Endorsement, MessageError
from paramcast.protocol.limits import MAX_NOTICE_BYTES
from paramcast.protocol.notice import NOTICE_HEADER

ATTEMPTS = 4
FIRST_WAIT_S = 0.25  # it doubles with every attempt; the real wait is drawn between 0 and this bound
LONGEST_WAIT_S = 60.0
MAX_JSON_BYTES = 1024 * 1024
_RETRIED = {429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Call:
    """Content of a call to the cloud.

    Attributes:
        method, path, body, headers: The HTTP request.
        limit: Largest number of bytes in the reply.
        model: sha256 of the base model whose notice the reply may carry; '' for none.
    """

    method: str
    path: str
    body: bytes | None = None
    limit: int = MAX_JSON_BYTES
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = ""


@dataclass(frozen=True)
class Reply:
    """Reply of the cloud; without a status if no reply came."""

    status: int | None
    headers: httpx2.Headers
    data: bytes
    problem: str = ""
    nonce: str = ""


class Retries:
    """Decides after each reply whether it is good, is final, or calls for another attempt after a wait."""

    def __init__(self, url: str, identity: DeviceIdentity | None) -> None:
        self._url, self._identity = url, identity
        self._failed = 0
        self._asked_for_keys = False

    def wait_s(self, reply: Reply) -> float | None:
        """Return None if `reply` is good, else the seconds to wait before the next attempt.

        Raises:
            CloudError: Another attempt is useless, or all attempts were made.
        """
        if reply.status is not None and (200 <= reply.status < 300 or reply.status == 304):
            return None
        self._failed += 1
        if self._clock_was_wrong(reply) and self._failed < ATTEMPTS:
            return 0.0
        problem = reply.problem or f"status {reply.status}: {_error_text(reply.data)}"
        if reply.status is not None and reply.status not in _RETRIED:
            raise CloudError(f"the cloud at {self._url} refused: {problem}")
        if self._failed >= ATTEMPTS:
            raise CloudError(f"no answer from the cloud at {self._url} in {ATTEMPTS} attempts: {problem}")
        asked = retry_after_s(reply.headers)
        if asked > LONGEST_WAIT_S:
            raise CloudError(f"the cloud at {self._url} asks to come back in {asked:.0f} s: {problem}")
        # Jitter spreads the requests of a fleet that lost its cloud. It covers a whole second at least where
        # the cloud has named a wait, because the cloud names whole seconds.
        spread = max(FIRST_WAIT_S * 2 ** (self._failed - 1), 1.0 if asked else 0.0)
        return asked + random.uniform(0, spread)

    def needs_keys(self, reply: Reply) -> bool:
        """Check whether `reply` states a time that the device cannot verify with the key that it trusts.

        The cloud may then have a newer key, so the caller asks for the chain of its keys, once.
        """
        if self._identity is None or reply.status != 401 or self._asked_for_keys:
            return False
        try:
            told = json_object(reply.data)
        except CloudError:
            return False
        if "time_us" not in told or self._identity.tells_time(told, reply.nonce):
            return False
        self._asked_for_keys = True
        return True

    def _clock_was_wrong(self, reply: Reply) -> bool:
        """Correct the clock if the cloud refused the time of the signature; return whether it did."""
        if self._identity is None or reply.status != 401:
            return False
        try:
            return self._identity.set_clock(json_object(reply.data), reply.nonce)
        except CloudError:
            return False


class Body:
    """Collects the bytes of a reply, and stops a reply that is too large or too slow."""

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._end = time.monotonic() + timeout_s
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Add a part. Raises CloudError if the reply is too large, ReadTimeout if the part came too late."""
        self._data += chunk
        if len(self._data) > self._limit:
            raise CloudError(f"the cloud's answer has more than {self._limit} bytes")
        if time.monotonic() > self._end:
            raise httpx2.ReadTimeout("the answer took too long")

    def reply(self, response: httpx2.Response, nonce: str) -> Reply:
        """Return the complete reply, after all parts have been added."""
        return Reply(response.status_code, response.headers, bytes(self._data), nonce=nonce)


def lost(error: httpx2.TransportError) -> Reply:
    """Make a reply without a status for a failed transport."""
    return Reply(None, httpx2.Headers(), b"", f"{type(error).__name__}: {error}")


def json_object(data: bytes) -> dict[str, Any]:
    """Parse the JSON object in the cloud's answer. Raises CloudError if there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CloudError("the cloud's answer is no JSON") from error
    if not isinstance(value, dict):
        raise CloudError("the cloud's answer is no JSON object")
    return value


class Keys(NamedTuple):
    """Answer of `/v1/keys`: endorsements of the cloud's keys by each other, and the root's delegation."""

    endorsements: list[Endorsement]
    delegation: Delegation | None

    @classmethod
    def read(cls, data: bytes) -> Keys:
        """Read the answer without a check of signatures. Raises CloudError if it is malformed."""
        return cls.of(json_object(data))

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Keys:
        """Convert the parsed answer. Raises CloudError if it is malformed."""
        try:
            chain = [Endorsement(**link) for link in told.get("endorsements") or ()]
            word = told.get("delegation")
            delegation = None if word is None else Delegation.from_json(word)
        except (TypeError, MessageError) as error:
            raise CloudError("the cloud's answer is no chain of keys") from error
        if not all(isinstance(text, str) for link in chain for text in vars(link).values()):
            raise CloudError("the cloud's answer is no chain of keys")
        return cls(chain, delegation)


def notice_in(headers: httpx2.Headers) -> bytes | None:
    """Return the notice in the headers of an answer, unchecked; None if there is no readable notice."""
    text = headers.get(NOTICE_HEADER, "")
    if not text or len(text) > 2 * MAX_NOTICE_BYTES:
        return None
    try:
        return urlsafe_b64decode(text)
    except ValueError:
        return None


def _error_text(data: bytes) -> str:
    """Return the error message in the service's answer as a line of at most 300 characters."""
    try:
        text = str(json_object(data).get("error", "no reason given"))
    except CloudError:
        text = "no reason given"
    return " ".join(text.split())[:300]


def retry_after_s(headers: httpx2.Headers) -> float:
    """Return the seconds that the cloud asks to wait; 0 without a valid `retry-after` header."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
