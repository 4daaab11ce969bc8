"""Errors and warnings about adapters."""

from __future__ import annotations

from paramcast.errors import InputError


class TargetError(InputError):
    """Target patterns do not fit the module, or the targets that they select cannot be adapted."""


class CheckError(InputError):
    """A module does not behave under an update as defined; the message names the fault."""


class ValuesError(InputError):
    """Tensors of an update do not fit the adapter: names, shapes, or numbers that are not finite."""


class HugeAdapterWarning(UserWarning):
    """An adapter needs a very large network to generate its numbers."""
