"""Having a model make parameters: what is generated together, and whether it may be sent."""

from __future__ import annotations

from dataclasses import dataclass

from paramcast.errors import ParamcastError
from paramcast.protocol import AdaptRequest
from paramcast.protocol.quantize import Float32
from paramcast.server.backend import AdaptBackend

_SMALL = 4
"""Clips and queries up to the power of two that are not told apart in a batch."""


class BackendError(ParamcastError):
    """The model failed or gave parameters that may not be sent."""


@dataclass(frozen=True, eq=False)
class Generated:
    """The tensors of a package to be, and what they do to the model's example, if that is known."""

    tensors: dict[str, Float32]
    effect: bytes | None


def size_class(request: AdaptRequest) -> tuple[int, int]:
    """Requests of one class are generated together: all are filled up to the largest of them.

    A large one would make a whole batch large: 31 small requests and one of 256 clips took 90 times as long
    as the small ones alone. Up to 16 clips and 16 queries are one class, beyond that each power of two.
    """
    return (
        max(_SMALL, (len(request.anchors) - 1).bit_length()),
        max(_SMALL, (len(request.queries) - 1).bit_length() if len(request.queries) else 0),
    )


def generate(backend: AdaptBackend, requests: list[AdaptRequest]) -> list[dict[str, Float32] | Exception]:
    """The tensors for each request, checked, or what was wrong with them."""
    try:
        made = backend.generate(requests)
        if len(made) != len(requests):
            raise BackendError(f"the model answered {len(made)} of {len(requests)} requests")
    except Exception as error:  # whatever a model may raise is one thing to the caller: it failed
        if len(requests) == 1:
            return [failure("the model failed", error)]
        # One by one, so that a request which the model cannot take does not fail its neighbors.
        return [outcome for request in requests for outcome in generate(backend, [request])]
    shapes = {name: tuple(shape) for name, shape in backend.parameters.items()}
    return [_checked(tensors, shapes) for tensors in made]


def _checked(
    tensors: dict[str, Float32], promised: dict[str, tuple[int, ...]]
) -> dict[str, Float32] | Exception:
    """The tensors if they are complete and of the right shapes; `seal` looks at their numbers."""
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    if shapes != promised:
        return BackendError(f"the model made {shapes}, it promised {promised}")
    return tensors


def failure(what: str, cause: Exception) -> BackendError:
    """A BackendError that is returned, not raised: with its cause all the same, for the log."""
    error = BackendError(f"{what}: {cause}")
    error.__cause__ = cause
    return error
