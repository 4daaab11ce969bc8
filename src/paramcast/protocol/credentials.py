"""Signatures of devices under their requests, and of a server's signing key under the next signing key.

A signed request carries `authorization: Paramcast DEVICE TIME NONCE SIGNATURE`: unix microseconds, 16 random
bytes and a 64-byte Ed25519 signature; nonce and signature are in base64url. The signature covers the method,
the path, the header's other values, and the sha256 of the body. This header is one short line, while HTTP
Message Signatures (RFC 9421) need three.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from paramcast.protocol.errors import BadSignature, MessageError
from paramcast.protocol.limits import DEVICE_ID
from paramcast.protocol.signing import SIGNATURE_BYTES, SigningKey, check_signature, is_public_key, sign

SCHEME = "Paramcast"
_NONCE_BYTES = 16
_TIME = re.compile(r"0|[1-9][0-9]{0,15}")
_LONGEST = 400


@dataclass(frozen=True)
class Credentials:
    """Content of the `authorization` header of a signed request.

    Attributes:
        device: Id of the device that signs.
        time_us: Time of the signature, unix microseconds by the device's clock; it grows with every request
            of a device.
        nonce: 16 random bytes, base64url.
        signature: 64 bytes.
    """

    device: str
    time_us: int
    nonce: str
    signature: bytes

    @classmethod
    def read(cls, header: str) -> Credentials:
        """Read a header's value. Raises MessageError for any other text."""
        parts = header.split(" ") if len(header) <= _LONGEST else []
        if len(parts) != 5 or parts[0] != SCHEME:
            raise MessageError(f"authorization must read: {SCHEME} DEVICE TIME NONCE SIGNATURE")
        _, device, time_us, nonce, signature = parts
        if not DEVICE_ID.fullmatch(device) or not _TIME.fullmatch(time_us):
            raise MessageError("authorization names no device id or no time")
        _decoded(nonce, _NONCE_BYTES)
        return cls(device, int(time_us), nonce, _decoded(signature, SIGNATURE_BYTES))

    def check(self, public_key: str, method: str, path: str, digest: bytes) -> None:
        """Check that `public_key` (hex) signed this for a body of sha256 `digest`. Raises BadSignature."""
        signed = _signed(method, path, self.device, self.time_us, self.nonce, digest)
        check_signature(public_key, signed, self.signature)


def authorize(
    key: SigningKey, *, device: str, method: str, path: str, body: bytes, time_us: int, nonce: str
) -> str:
    """Return the value of the `authorization` header that signs a request; `nonce` comes from `new_nonce`."""
    signed = _signed(method, path, device, time_us, nonce, hashlib.sha256(body).digest())
    return f"{SCHEME} {device} {time_us} {nonce} {_encoded(sign(key, signed))}"


def new_nonce() -> str:
    """Draw 16 random bytes, written in base64url."""
    return _encoded(secrets.token_bytes(_NONCE_BYTES))


def _signed(method: str, path: str, device: str, time_us: int, nonce: str, digest: bytes) -> bytes:
    return f"paramcast request 1\n{method} {path}\n{device}\n{time_us}\n{nonce}\n".encode() + digest


def prove_key(key: SigningKey, device: str, secret: str) -> str:
    """Prove possession of `key`. `secret` is an enrolment token, or 'next' if `key` replaces an older key."""
    return sign(key, _proof(device, secret)).hex()


def check_proof(public_key: str, device: str, secret: str, proof: str) -> None:
    """Check a proof of `prove_key`. Raises BadSignature."""
    try:
        check_signature(public_key, _proof(device, secret), _from_hex(proof))
    except BadSignature as error:
        raise BadSignature(
            f"the proof does not fit this public key, device {device} and this token; make a new proof"
        ) from error


def _proof(device: str, secret: str) -> bytes:
    return f"paramcast key of a device 1\n{device}\n{secret}\n".encode()


def tell_time(key: SigningKey, nonce: str, time_us: int) -> str:
    """Sign the server's time for a device with a wrong clock; returns hex digits."""
    return sign(key, _told(nonce, time_us)).hex()


def check_time(public_key: str, nonce: str, time_us: int, signature: str) -> None:
    """Check that the server signed this time for the request with this nonce. Raises BadSignature."""
    check_signature(public_key, _told(nonce, time_us), _from_hex(signature))


def _told(nonce: str, time_us: int) -> bytes:
    return f"paramcast time 1\n{nonce}\n{time_us}\n".encode()


@dataclass(frozen=True)
class Endorsement:
    """Signature of one signing key under the next: a device that trusts `old` may trust `new` (hex keys)."""

    old: str
    new: str
    signature: str


def endorse(old: SigningKey, new: str) -> Endorsement:
    """Sign with `old` that `new` (a public key, hex) signs updates from now on."""
    return Endorsement(bytes(old.verify_key).hex(), new, sign(old, _endorsed(new)).hex())


def follow(trusted: str, endorsements: Sequence[Endorsement]) -> str:
    """Return the last key of the chain that begins at `trusted`; the signature of each link is checked.

    Raises:
        BadSignature: If a link is not signed by the previous key, or names no public key, or the chain is a
            cycle.
    """
    links = {link.old: link for link in endorsements}
    key, seen = trusted, {trusted}
    while (link := links.get(key)) is not None:
        check_signature(link.old, _endorsed(link.new), _from_hex(link.signature))
        if link.new in seen or not is_public_key(link.new):
            raise BadSignature("the chain of signing keys goes in a circle or ends in no key")
        key = link.new
        seen.add(key)
    return key


def _endorsed(new: str) -> bytes:
    return f"paramcast signing key 1\n{new}\n".encode()


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str, size: int) -> bytes:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        data = b""
    if len(data) != size or _encoded(data) != text:  # only one spelling of a value is valid
        raise MessageError(f"authorization holds no {size} bytes of base64url where it should")
    return data


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadSignature("a signature is not written in hex digits") from error
