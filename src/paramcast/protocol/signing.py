"""Ed25519 keys and signatures, and the file that stores a server's key."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from paramcast.protocol.errors import BadSignature, KeyFileError

SIGNATURE_BYTES = 64
_HEX_32_BYTES = re.compile(r"[0-9a-f]{64}")

__all__ = [
    "SIGNATURE_BYTES",
    "SigningKey",
    "check_signature",
    "is_public_key",
    "load_key",
    "load_or_make_key",
    "make_key",
    "public_key_hex",
    "save_key",
    "sign",
]


def make_key() -> SigningKey:
    """Make a new random signing key."""
    return SigningKey.generate()


def public_key_hex(key: SigningKey) -> str:
    """Return the public half of `key`: 64 lower-case hex digits."""
    return bytes(key.verify_key).hex()


def is_public_key(text: object) -> bool:
    """Check whether `text` has the form of a public key: 64 lower-case hex digits."""
    return isinstance(text, str) and _HEX_32_BYTES.fullmatch(text) is not None


def sign(key: SigningKey, data: bytes) -> bytes:
    """Compute the 64-byte signature of `data`."""
    return key.sign(data).signature


def check_signature(public_key: str, data: bytes, signature: bytes) -> None:
    """Check that `signature` is the signature of `data` under `public_key` (hex).

    Raises:
        BadSignature: If it is not, or if `public_key` is no public key.
    """
    if not is_public_key(public_key):
        raise BadSignature("the public key is not 64 lower-case hex digits")
    try:
        VerifyKey(bytes.fromhex(public_key)).verify(data, signature)
    except (BadSignatureError, ValueError) as error:  # ValueError: not of 64 bytes
        raise BadSignature("the signature does not fit the package and this cloud's public key") from error


def save_key(key: SigningKey, path: Path | str, like: Path | str | None = None) -> None:
    """Write `key` to a new file that only its owner may read; atomically, and never over another key.

    If root writes the file, its owner becomes the owner of `like`, or of the folder if `like` is None, so
    that a service that runs as another user can read the key.

    Raises:
        KeyFileError: If the file exists already or cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(bytes(key).hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
            if os.name == "posix" and os.geteuid() == 0:
                owner = Path(like or target.parent).stat()
                os.chown(temporary, owner.st_uid, owner.st_gid)
            target.hardlink_to(temporary)  # unlike a rename, it fails if another process was first
        finally:
            temporary.unlink()
    except OSError as error:
        if target.is_file():
            raise KeyFileError(f"{target} exists already; a key is never overwritten") from error
        raise KeyFileError(f"cannot write the key file {target}: {error.strerror}") from error


def load_key(path: Path | str) -> SigningKey:
    """Read the key that `save_key` wrote.

    Raises:
        KeyFileError: If the file is missing, unreadable, no key, or accessible by other users.
    """
    source = Path(path)
    try:
        with source.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(128).decode("ascii", "replace").strip()
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {source}: {error.strerror}") from error
    if os.name == "posix" and mode & 0o077:
        raise KeyFileError(f"the key file {source} is open to others; run: chmod 600 {source}")
    if not _HEX_32_BYTES.fullmatch(text):
        raise KeyFileError(f"{source} is no key file: it must hold 64 hex digits")
    return SigningKey(bytes.fromhex(text))


def load_or_make_key(path: Path | str) -> SigningKey:
    """Read the key at `path`; make one there on first use. Two processes may start at the same time.

    Raises:
        KeyFileError: For the reasons of `load_key` and `save_key`.
    """
    if not Path(path).exists():
        try:
            save_key(make_key(), path)
        except KeyFileError:
            if not Path(path).exists():
                raise
    return load_key(path)
