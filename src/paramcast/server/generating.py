"""Generates parameters with a model: groups requests, and checks the results."""

from __future__ import annotations

from dataclasses import dataclass

from paramcast.errors import ParamcastError
from paramcast.protocol import AdaptRequest
from paramcast.protocol.quantize import Float32
from paramcast.server.backend import AdaptBackend

_SMALL = 4
"""Exponent of 2: requests with at most 2^4 clips and queries are in one class."""


class BackendError(ParamcastError):
    """The model failed, or generated parameters that may not be sent."""


@dataclass(frozen=True, eq=False)
class Generated:
    """Tensors of a future update, and their effect on the model's probe, if it is known."""

    tensors: dict[str, Float32]
    effect: bytes | None


def size_class(request: AdaptRequest) -> tuple[int, int]:
    """Return the size class of a request; only requests of one class are generated together.

    The requests of a batch are filled up to the size of the largest one, so that one large request makes the
    whole batch slow: 31 small requests and one request of 256 clips took 90 times as long as the small
    requests alone. Up to 16 clips and 16 queries are one class; above, every power of two is a class.
    """
    return (
        max(_SMALL, (len(request.anchors) - 1).bit_length()),
        max(_SMALL, (len(request.queries) - 1).bit_length() if len(request.queries) else 0),
    )


def generate(backend: AdaptBackend, requests: list[AdaptRequest]) -> list[dict[str, Float32] | Exception]:
    """Generate and check the tensors of each request; a failed request gets an error instead."""
    try:
        made = backend.generate(requests)
        if len(made) != len(requests):
            raise BackendError(f"the model answered {len(made)} of {len(requests)} requests")
    except Exception as error:  # any error of a model means that it failed
        if len(requests) == 1:
            return [failure("the model failed", error)]
        # One by one, so that a request on which the model fails does not affect the others.
        return [outcome for request in requests for outcome in generate(backend, [request])]
    shapes = {name: tuple(shape) for name, shape in backend.parameters.items()}
    return [_checked(tensors, shapes) for tensors in made]


def _checked(
    tensors: dict[str, Float32], promised: dict[str, tuple[int, ...]]
) -> dict[str, Float32] | Exception:
    """Check that the tensors are complete and have the right shapes; `seal` checks their values."""
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    if shapes != promised:
        return BackendError(f"the model made {shapes}, it promised {promised}")
    return tensors


def failure(what: str, cause: Exception) -> BackendError:
    """Make a BackendError that is returned instead of raised; it has its cause, for the log."""
    error = BackendError(f"{what}: {cause}")
    error.__cause__ = cause
    return error
