"""Errors of exporting a folder and of reading it."""

from __future__ import annotations

from paramcast.errors import InputError


class ArtifactError(InputError):
    """The folder is incomplete, damaged, of another format, or its graph ignores updates."""


class ExportError(InputError):
    """The module cannot be written as a graph that gives the same outputs, or an argument is unsuitable."""
