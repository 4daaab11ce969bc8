"""The signed notice by which a server recalls updates: by version, by issue time, or all of them.

Layout: `PCNT`, a format byte, 64-byte Ed25519 signature, JSON without blanks and with sorted keys. The
signature covers the format byte and the JSON. Keys: `b` whether devices run their base model, `g` the
generation of the signing key, `i` lowest issue time, `m` base model, `n` number, `t` time, `u` valid until,
`w` withdrawn versions in rising order. Section "Notices" of docs/protocol.md has the rules.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from paramcast.protocol import limits
from paramcast.protocol.errors import BadFormat, BadSignature, TooLarge, WrongGeneration, WrongModel
from paramcast.protocol.signing import SIGNATURE_BYTES, SigningKey, check_signature, sign

MAGIC = b"PCNT"
_FORMAT = b"\x01"
_BODY = len(MAGIC) + 1 + SIGNATURE_BYTES

NOTICE_HEADER = "paramcast-notice"
"""Header of answers to `/v1/adapt` that carries the notice in base64url, with its padding."""

SKEW_S = 86400
"""Seconds. An issue time that is later than a notice's time by more than this comes from a wrong clock."""


@dataclass(frozen=True)
class Notice:
    """A server's notice about the updates for one base model.

    Attributes:
        model: sha256 of the base model.
        number: Grows with every change of the recalls below. It orders notices independently of clocks.
        time: Unix seconds of the signature.
        until: Unix seconds from which a newer notice should exist.
        withdrawn: Versions of the model whose updates may not be run, in rising order; at most 256.
        since: Unix seconds; updates that were issued earlier may not be run.
        to_base: Whether devices run their base model and accept no update.
        generation: Generation of the signing key; 0: no root has delegated the key.
    """

    model: str
    number: int
    time: int
    until: int
    withdrawn: tuple[int, ...] = ()
    since: int = 0
    to_base: bool = False
    generation: int = 0

    def refusal(self, version: int | None, issued: int | None) -> str | None:
        """Return why an update of this version and issue time may not be run; None if it may be run."""
        if version is not None and version in self.withdrawn:
            return f"version {version} of the model is withdrawn"
        if self.since and (issued is None or issued < self.since or issued > self.time + SKEW_S):
            return f"updates that were issued before {self.since} (unix seconds) are called back"
        return None

    def says_more(self, other: Notice) -> bool:
        """Check whether this may refuse an update that `other` allows; a later time alone cannot."""
        told = self.withdrawn, self.since
        return told != (other.withdrawn, other.since) or self.time < other.time

    def replaces(self, other: Notice, now: float) -> bool:
        """Check whether this notice replaces `other`, which the same key has signed.

        The higher number wins. Two notices with the same number have the same content, and the later one
        replaces the earlier one. A time of `other` that is more than `SKEW_S` after `now` (unix seconds)
        cannot be right and does not count.
        """
        if self.number != other.number:
            return self.number > other.number
        return self.time >= other.time or other.time > now + SKEW_S


def seal_notice(notice: Notice, key: SigningKey) -> bytes:
    """Serialize and sign a notice; the result has about 250 bytes.

    Raises:
        BadFormat: If a field is outside its limits.
    """
    _check(notice)
    body = _encode(notice)
    return MAGIC + _FORMAT + sign(key, _FORMAT + body) + body


def open_notice(data: bytes, public_key: str, *, model: str, generation: int | None = None) -> Notice:
    """Check and read a notice; nothing is parsed before the signature is checked.

    Args:
        data: Bytes of `seal_notice`.
        public_key: Hex digits of the server's key.
        model: sha256 of the base model that the device runs.
        generation: Generation in which the root has delegated the key; None: no root is known.

    Raises:
        PackageError: The subclass of the first broken rule.
    """
    if len(data) > limits.MAX_NOTICE_BYTES:
        raise TooLarge(f"the notice has {len(data)} bytes, more than {limits.MAX_NOTICE_BYTES}")
    if len(data) < _BODY or not data.startswith(MAGIC):
        raise BadFormat("these bytes are no notice")
    kind, body = data[len(MAGIC) : len(MAGIC) + 1], data[_BODY:]
    if kind != _FORMAT:
        raise BadFormat(f"notice format {kind[0]} is unknown here; this version of paramcast reads format 1")
    try:
        check_signature(public_key, kind + body, data[len(MAGIC) + 1 : _BODY])
    except BadSignature as error:
        raise BadSignature("the notice is not signed by the key that this device trusts") from error
    notice = _decode(body)
    if generation is not None and notice.generation != generation:
        raise WrongGeneration(
            f"the notice is of generation {notice.generation}, the key is trusted in generation {generation}"
        )
    if notice.model != model:
        raise WrongModel(f"the notice is for base model {notice.model[:12]}, this device runs {model[:12]}")
    return notice


def _encode(notice: Notice) -> bytes:
    told = {
        "b": notice.to_base,
        "g": notice.generation,
        "i": notice.since,
        "m": notice.model,
        "n": notice.number,
        "t": notice.time,
        "u": notice.until,
        "w": list(notice.withdrawn),
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _decode(body: bytes) -> Notice:
    """Read the notice in `body`, which must be byte for byte the output of `_encode`."""
    try:
        told: Any = json.loads(body)
        notice = Notice(
            model=told["m"],
            number=told["n"],
            time=told["t"],
            until=told["u"],
            withdrawn=tuple(told["w"]),
            since=told["i"],
            to_base=told["b"],
            generation=told["g"],
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadFormat("the notice is malformed") from error
    _check(notice)
    if _encode(notice) != body:
        raise BadFormat("the notice is not written in the one way there is")
    return notice


def _check(notice: Notice) -> None:
    numbers = (notice.generation, notice.since, notice.number, notice.time, notice.until)
    if any(type(number) is not int or not 0 <= number <= limits.MAX_TIME for number in numbers):
        raise BadFormat(f"a number of the notice is not 0 to {limits.MAX_TIME}")
    if not isinstance(notice.model, str) or not limits.MODEL_ID.fullmatch(notice.model):
        raise BadFormat("the notice's model is no sha256 of 64 lower-case hex digits")
    if notice.until < notice.time or type(notice.to_base) is not bool:
        raise BadFormat("the notice ends before it begins, or says neither yes nor no to the base model")
    versions = notice.withdrawn
    if len(versions) > limits.MAX_WITHDRAWN or any(type(one) is not int for one in versions):
        raise BadFormat(f"the notice names more than {limits.MAX_WITHDRAWN} versions, or no numbers")
    if any(not 1 <= one <= limits.MAX_SEQUENCE for one in versions) or list(versions) != sorted({*versions}):
        raise BadFormat("the notice's versions are not rising numbers from 1 on")
