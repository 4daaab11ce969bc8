"""Errors and warnings about adapters."""

from __future__ import annotations

from paramcast.errors import InputError


class TargetError(InputError):
    """Target patterns do not fit the module, or what they take cannot be adapted."""


class CheckError(InputError):
    """A module does not behave under an update as it has to; the message names what is wrong."""


class ValuesError(InputError):
    """Tensors of an update do not fit the adapter: names, shapes, or numbers that are not finite."""


class HugeAdapterWarning(UserWarning):
    """An adapter needs a very large network to generate its numbers."""
