"""Errors of a federation."""

from __future__ import annotations

from paramcast.errors import InputError, ParamcastError


class FederationInputError(InputError, ValueError):
    """The data or the options cannot be used; the message says what to change."""


class FederationError(ParamcastError):
    """The federation failed: no client is left, a client reported an error, or a connection failed."""
