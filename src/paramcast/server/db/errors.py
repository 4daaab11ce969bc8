"""Errors of the state."""

from __future__ import annotations

from paramcast.errors import InputError, ParamcastError


class StateError(ParamcastError):
    """The database cannot be reached, is full or refused a statement; the transaction is rolled back."""


class StateInputError(InputError):
    """The URL is invalid, or the requested change of the state is not allowed."""


class StateConflictError(StateInputError):
    """The request conflicts with the present state, for example because another operator was first."""
