"""One error class for each rule that bytes from the other side can break."""

from __future__ import annotations

from paramcast.errors import InputError, ParamcastError


class MessageError(InputError):
    """A request is malformed: wrong bytes, names, shapes, values or size."""


class KeyFileError(InputError):
    """A signing key cannot be read, is no key, or is readable by others."""


class PackageError(ParamcastError):
    """A package may not be run. The device keeps the parameters that it has."""


class TooLarge(PackageError):
    """The package is larger than the limit."""


class BadFormat(PackageError):
    """The bytes are no package of this format."""


class BadSignature(PackageError):
    """The signature does not belong to these bytes and this cloud's public key."""


class WrongGeneration(BadSignature):
    """The package is of another generation than that in which the root delegated the key."""


class WrongDevice(PackageError):
    """The package was made for another device."""


class WrongModel(PackageError):
    """The package was made for another base model."""


class StaleSequence(PackageError):
    """The package is not newer than one that the device has already run: a replay or a roll back."""


class SequenceJump(PackageError):
    """The sequence number is so far above the last one that somebody is running the numbers up."""


class Expired(PackageError):
    """The package's time is over."""


class Withdrawn(PackageError):
    """The server has called the package back by a signed notice."""


class StaleNotice(PackageError):
    """The notice is older than one that the device has taken."""


class MissingTensor(PackageError):
    """A tensor that the model needs is not in the package."""


class UnexpectedTensor(PackageError):
    """The package carries a tensor that the model does not have."""


class WrongDtype(PackageError):
    """A tensor is not stored in the dtype that the package's quantization promises."""


class WrongShape(PackageError):
    """A tensor's shape is not the model's."""


class NotFinite(PackageError):
    """A tensor holds NaN or an infinity."""
