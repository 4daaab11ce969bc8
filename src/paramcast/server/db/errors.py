"""What can go wrong with the state."""

from __future__ import annotations

from paramcast.errors import InputError, ParamcastError


class StateError(ParamcastError):
    """The database cannot be reached, is full or refused a statement; nothing of the transaction is kept."""


class StateInputError(InputError):
    """The URL, or what the state is asked to do, is not possible."""


class StateConflictError(StateInputError):
    """What is asked was right a moment ago: somebody else was first."""
