"""What can go wrong on a device, one class each."""

from __future__ import annotations

from paramcast.artifact.errors import ArtifactError
from paramcast.errors import InputError, ParamcastError
from paramcast.protocol import PackageError

BundleError = ArtifactError
"""The exported folder is incomplete, damaged or not of this format."""


class DeviceInputError(InputError):
    """Inputs, or the order of calls, are not what the device can use."""


class CloudError(ParamcastError):
    """The cloud could not be reached, refused the request or broke the protocol."""


class ProbeFailed(PackageError):
    """With the package's parameters the model's outputs are not finite."""


class NoEffect(PackageError):
    """The package changes parameters, but not the model's outputs: it is not for this graph."""


class WrongEffect(PackageError):
    """The package does not do to the exported example what the cloud has signed: it is not for this graph."""


class NoPublicKey(PackageError):
    """The device does not know any cloud's public key yet, so that it cannot check packages."""


class PackageLost(PackageError):
    """A package is gone from the store, or its bytes are not what they were."""
