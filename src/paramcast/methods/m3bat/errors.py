"""Errors of the input, one class for each kind. Every class is also a ValueError, as scikit-learn expects."""

from __future__ import annotations

from paramcast.errors import InputError


class SamplesError(InputError, ValueError):
    """X or y cannot be used: NaN, infinite, of the wrong shape, other columns than in fit."""


class DomainError(InputError, ValueError):
    """`sample_domain` does not say which rows are source (positive) and which are target (negative)."""


class LabelsError(InputError, ValueError):
    """The labels of the source rows cannot be used for training."""


class OptionError(InputError, ValueError):
    """An option of the estimator has an invalid value, or a value that does not fit the data."""
