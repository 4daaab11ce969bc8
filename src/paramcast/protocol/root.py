"""Signatures of an offline root key: for the online key that a fleet trusts, and for manifests of artifacts.

Section "Keys" of docs/protocol.md has the rules. There is one root key, not m of n. If a signature must need
several people, keep the root key in shares, or in a hardware device that asks for several people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from paramcast.protocol.errors import BadSignature, MessageError
from paramcast.protocol.limits import MAX_SEQUENCE, MAX_TIME
from paramcast.protocol.signing import (
    SIGNATURE_BYTES,
    SigningKey,
    check_signature,
    is_public_key,
    public_key_hex,
    sign,
)

MANIFEST_SIGNATURE = "manifest.sig"
"""Name of the file beside `manifest.json` that holds the root's signature of it: 128 hex digits."""


@dataclass(frozen=True)
class Delegation:
    """The root's signed statement that an online key signs for the fleet.

    Attributes:
        root: Public key of the root, hex.
        generation: Number of the delegation, from 1; a higher generation replaces all lower ones.
        key: Public key that signs updates and notices, hex.
        not_after: Unix seconds from which the key may no longer sign.
        signature: Signature of the root, 128 hex digits.
    """

    root: str
    generation: int
    key: str
    not_after: int
    signature: str

    def check(self, root: str) -> None:
        """Check that `root` (a public key, hex) has signed the delegation. Raises BadSignature."""
        if self.root != root:
            raise BadSignature(
                f"the delegation is of root {self.root[:12]}..., this device trusts {root[:12]}... only"
            )
        check_signature(root, _delegated(self.generation, self.key, self.not_after), _hex(self.signature))

    def to_json(self) -> dict[str, Any]:
        """Convert to the JSON of the delegation's file and of the answer of `/v1/keys`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Delegation:
        """Read the value of `to_json`; the signature is not checked. Raises MessageError for other values."""
        fields = {"root": str, "generation": int, "key": str, "not_after": int, "signature": str}
        if not isinstance(value, Mapping) or value.keys() != fields.keys():
            raise MessageError(f"a delegation has the keys {', '.join(fields)}")
        if any(type(value[name]) is not kind for name, kind in fields.items()):
            raise MessageError("a value of the delegation has the wrong type")
        read = cls(**value)
        _check(read.generation, read.key, read.not_after)
        return read

    @classmethod
    def read(cls, data: bytes) -> Delegation:
        """Read a file of `paramcast root delegate`. Raises MessageError for other content."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise MessageError("a delegation is a file of JSON: paramcast root delegate writes it") from error
        return cls.from_json(value)


def delegate(root: SigningKey, *, generation: int, key: str, not_after: int) -> Delegation:
    """Sign that `key` (a public key, hex) signs for the fleet in this generation.

    Args:
        root: The offline key.
        generation: Higher than all earlier generations; from 1.
        key: Public key of the server.
        not_after: Unix seconds from which the key may no longer sign.

    Raises:
        MessageError: A value is outside its limits.
    """
    _check(generation, key, not_after)
    signature = sign(root, _delegated(generation, key, not_after)).hex()
    return Delegation(public_key_hex(root), generation, key, not_after, signature)


def sign_manifest(root: SigningKey, manifest: bytes) -> str:
    """Sign an artifact's `manifest.json` with the root key; returns 128 hex digits."""
    return sign(root, _MANIFEST + manifest).hex()


def check_manifest(root: str, manifest: bytes, signature: str) -> None:
    """Check that `root` (hex) has signed the bytes of this manifest. Raises BadSignature."""
    check_signature(root, _MANIFEST + manifest, _hex(signature))


_MANIFEST = b"paramcast manifest 1\n"


def _delegated(generation: int, key: str, not_after: int) -> bytes:
    return f"paramcast delegation 1\n{generation}\n{key}\n{not_after}\n".encode()


def _check(generation: int, key: str, not_after: int) -> None:
    if not 1 <= generation <= MAX_SEQUENCE:
        raise MessageError(f"a generation is 1 to {MAX_SEQUENCE}")
    if not is_public_key(key):
        raise MessageError("the delegated key is not 64 lower-case hex digits")
    if not 0 <= not_after <= MAX_TIME:
        raise MessageError("not_after is no unix time in seconds")


def _hex(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != SIGNATURE_BYTES:
        raise BadSignature("the root's signature is not 128 hex digits")
    return data
