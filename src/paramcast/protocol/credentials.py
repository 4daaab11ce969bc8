"""How a device signs its requests, and how a cloud's next signing key is endorsed by the one before.

A signed request carries `authorization: Paramcast DEVICE TIME NONCE SIGNATURE`: unix microseconds, 16 random
bytes and 64 bytes of Ed25519 signature, both in base64url. Signed are the method, the path, all that the
header says, and the sha256 of the body. One short line, where HTTP Message Signatures (RFC 9421) take three.
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
    """What the header of a signed request says.

    Attributes:
        device: Who signs.
        time_us: When, unix microseconds by the device's clock; grows with every request of a device.
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
        """Return if `public_key` (hex) signed this for a body of sha256 `digest`. Raises BadSignature."""
        signed = _signed(method, path, self.device, self.time_us, self.nonce, digest)
        check_signature(public_key, signed, self.signature)


def authorize(
    key: SigningKey, *, device: str, method: str, path: str, body: bytes, time_us: int, nonce: str
) -> str:
    """The value of the `authorization` header that signs a request; `nonce` from `new_nonce`."""
    signed = _signed(method, path, device, time_us, nonce, hashlib.sha256(body).digest())
    return f"{SCHEME} {device} {time_us} {nonce} {_encoded(sign(key, signed))}"


def new_nonce() -> str:
    """16 random bytes, base64url."""
    return _encoded(secrets.token_bytes(_NONCE_BYTES))


def _signed(method: str, path: str, device: str, time_us: int, nonce: str, digest: bytes) -> bytes:
    return f"paramcast request 1\n{method} {path}\n{device}\n{time_us}\n{nonce}\n".encode() + digest


def prove_key(key: SigningKey, device: str, secret: str) -> str:
    """Prove that one has `key`, to enrol with a token or to take the place of an older key (`secret`)."""
    return sign(key, _proof(device, secret)).hex()


def check_proof(public_key: str, device: str, secret: str, proof: str) -> None:
    """Return if `proof` is what `prove_key` gives. Raises BadSignature."""
    try:
        check_signature(public_key, _proof(device, secret), _from_hex(proof))
    except BadSignature as error:
        raise BadSignature(
            f"the proof is not one of this public key for device {device} and this token; prove the key anew"
        ) from error


def _proof(device: str, secret: str) -> bytes:
    return f"paramcast key of a device 1\n{device}\n{secret}\n".encode()


def tell_time(key: SigningKey, nonce: str, time_us: int) -> str:
    """The cloud's signature under the time that it tells a device whose clock is wrong."""
    return sign(key, _told(nonce, time_us)).hex()


def check_time(public_key: str, nonce: str, time_us: int, signature: str) -> None:
    """Return if the cloud told this time to the request with this nonce. Raises BadSignature."""
    check_signature(public_key, _told(nonce, time_us), _from_hex(signature))


def _told(nonce: str, time_us: int) -> bytes:
    return f"paramcast time 1\n{nonce}\n{time_us}\n".encode()


@dataclass(frozen=True)
class Endorsement:
    """One signing key's word for the next: whoever trusts `old` may trust `new` (public keys, hex)."""

    old: str
    new: str
    signature: str


def endorse(old: SigningKey, new: str) -> Endorsement:
    """Sign that packages are signed by `new` (a public key, hex) from now on."""
    return Endorsement(bytes(old.verify_key).hex(), new, sign(old, _endorsed(new)).hex())


def follow(trusted: str, endorsements: Sequence[Endorsement]) -> str:
    """The last key of the chain that begins at `trusted`; each link's signature is checked.

    Raises:
        BadSignature: If a link is not signed by the key before, or the chain goes in a circle.
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
    if len(data) != size or _encoded(data) != text:  # one way only to write each value
        raise MessageError(f"authorization holds no {size} bytes of base64url where it should")
    return data


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadSignature("a signature is not written in hex digits") from error
