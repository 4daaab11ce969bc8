"""Errors of the input."""

from __future__ import annotations

from paramcast.errors import InputError


class FewShotError(InputError, ValueError):
    """Embeddings, labels or options cannot be used; the message says what to change."""
