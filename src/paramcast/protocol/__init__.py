"""Messages between devices and the server: requests, signed updates, notices, and their limits.

This package needs numpy and PyNaCl. It imports only the error classes from the rest of paramcast.
"""

from paramcast.protocol.credentials import Credentials, Endorsement, authorize, endorse, follow, new_nonce
from paramcast.protocol.errors import (
    BadFormat,
    BadSignature,
    Expired,
    KeyFileError,
    MessageError,
    MissingTensor,
    NotFinite,
    PackageError,
    SequenceJump,
    StaleNotice,
    StaleSequence,
    TooLarge,
    UnexpectedTensor,
    Withdrawn,
    WrongDevice,
    WrongDtype,
    WrongGeneration,
    WrongModel,
    WrongShape,
)
from paramcast.protocol.limits import MAX_PACKAGE_BYTES, MAX_REQUEST_BYTES
from paramcast.protocol.messages import AdaptRequest
from paramcast.protocol.notice import Notice, open_notice, seal_notice
from paramcast.protocol.package import Package, open_package, seal
from paramcast.protocol.root import Delegation, delegate
from paramcast.protocol.signing import (
    SigningKey,
    load_key,
    load_or_make_key,
    make_key,
    public_key_hex,
    save_key,
)

__all__ = [
    "MAX_PACKAGE_BYTES",
    "MAX_REQUEST_BYTES",
    "AdaptRequest",
    "BadFormat",
    "BadSignature",
    "Credentials",
    "Delegation",
    "Endorsement",
    "Expired",
    "KeyFileError",
    "MessageError",
    "MissingTensor",
    "NotFinite",
    "Notice",
    "Package",
    "PackageError",
    "SequenceJump",
    "SigningKey",
    "StaleNotice",
    "StaleSequence",
    "TooLarge",
    "UnexpectedTensor",
    "Withdrawn",
    "WrongDevice",
    "WrongDtype",
    "WrongGeneration",
    "WrongModel",
    "WrongShape",
    "authorize",
    "delegate",
    "endorse",
    "follow",
    "load_key",
    "load_or_make_key",
    "make_key",
    "new_nonce",
    "open_notice",
    "open_package",
    "public_key_hex",
    "save_key",
    "seal",
    "seal_notice",
]
