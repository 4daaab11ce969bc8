"""What goes wrong in a federation."""

from __future__ import annotations

from paramcast.errors import InputError, ParamcastError


class FederationInputError(InputError, ValueError):
    """The data or the options cannot be used; the message says what to change."""


class FederationError(ParamcastError):
    """Every client failed, so there is nothing to learn from."""
