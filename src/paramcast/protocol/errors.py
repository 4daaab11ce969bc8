"""One error class for each rule that received bytes can break."""

from __future__ import annotations

from paramcast.errors import InputError, ParamcastError


class MessageError(InputError):
    """A request is malformed: wrong bytes, names, shapes, values or size."""


class KeyFileError(InputError):
    """A signing key cannot be read or written, is no key, or is readable by other users."""


class PackageError(ParamcastError):
    """An update may not be run. The device keeps the parameters that it has."""


class TooLarge(PackageError):
    """The update or notice is larger than the limit."""


class BadFormat(PackageError):
    """The bytes are no update or notice of a known format, or a field is outside its limits."""


class BadSignature(PackageError):
    """The signature does not fit the bytes and the trusted public key."""


class WrongGeneration(BadSignature):
    """The update or notice has another generation than the root's delegation of the key."""


class WrongDevice(PackageError):
    """The update was made for another device."""


class WrongModel(PackageError):
    """The update or notice was made for another base model."""


class StaleSequence(PackageError):
    """The update is not newer than an update that the device has already run: a replay or a roll back."""


class SequenceJump(PackageError):
    """The sequence number is too far above the last one. Such a jump could use up all numbers."""


class Expired(PackageError):
    """The update has expired."""


class Withdrawn(PackageError):
    """The server has recalled the update by a signed notice."""


class StaleNotice(PackageError):
    """The notice is older than a notice that the device has accepted."""


class MissingTensor(PackageError):
    """A tensor that the model needs is not in the update."""


class UnexpectedTensor(PackageError):
    """The update carries a tensor that the model does not have."""


class WrongDtype(PackageError):
    """A tensor does not have the dtype of the update's quantization."""


class WrongShape(PackageError):
    """A tensor does not have the shape that the model needs."""


class NotFinite(PackageError):
    """A tensor holds NaN or an infinity."""
