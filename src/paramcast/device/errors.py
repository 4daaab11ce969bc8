"""Errors of a device, one class for each kind."""

from __future__ import annotations

from paramcast.artifact.errors import ArtifactError
from paramcast.errors import InputError, ParamcastError
from paramcast.protocol import PackageError

BundleError = ArtifactError
"""The exported folder is incomplete, damaged or of another format."""


class DeviceInputError(InputError):
    """The device cannot use the inputs, or cannot serve a call at this time."""


class CloudError(ParamcastError):
    """The cloud could not be reached, refused the request or broke the protocol."""


class ProbeFailed(PackageError):
    """The model cannot run with the package's parameters, or its outputs are then not finite."""


class NoEffect(PackageError):
    """The package changes parameters but no output of the model, so it was made for another graph."""


class WrongEffect(PackageError):
    """The package's effect on the probe is not the signed effect, so it was made for another graph."""


class NoPublicKey(PackageError):
    """The device knows no public key of a cloud yet, so it cannot check packages."""


class PackageLost(PackageError):
    """A package is missing from the store, or its bytes have changed."""
