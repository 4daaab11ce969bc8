"""Checks with synthetic requests whether a model generates parameters that may be sent."""

from __future__ import annotations

import numpy as np

from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest
from paramcast.server.backend import AdaptBackend

_REQUESTS = 64
_MOST_CLIPS, _MOST_QUERIES = 16, 16


def trial_requests(backend: AdaptBackend, count: int, device: str = "probe") -> list[AdaptRequest]:
    """Make synthetic requests of 1 to 16 clips, with features of standard deviation 0.1 to 3.

    They are always the same. The requests differ from each other, because some faults of a model show for
    some requests only.
    """
    rng = np.random.default_rng(0)
    image_dim, text_dim = backend.uplink_dims
    made = []
    for place in range(count):
        clips, queries = rng.integers(1, _MOST_CLIPS + 1), rng.integers(0, _MOST_QUERIES + 1)
        scale = (0.1, 1.0, 3.0)[place % 3]
        made.append(
            AdaptRequest(
                device=device,
                model=backend.model,
                sequence=0,
                anchors=scale * rng.standard_normal((clips, image_dim), np.float32),
                queries=scale * rng.standard_normal((queries, text_dim), np.float32),
                clip_of_query=np.sort(rng.integers(0, clips, queries)),
            )
        )
    return made


def check_backend(backend: AdaptBackend) -> None:
    """Check that the model generates complete, finite updates for 64 requests like those of devices.

    Raises:
        InputError: An update is incomplete or not finite, so that it would fail on devices.
    """
    requests = trial_requests(backend, _REQUESTS)
    try:
        made = backend.generate(requests)
    except Exception as error:  # a model may raise any error
        raise InputError(f"the model fails on a request as devices send it: {error}") from error
    for place, tensors in enumerate(made):
        shapes = {name: tuple(values.shape) for name, values in tensors.items()}
        if shapes != {name: tuple(shape) for name, shape in backend.parameters.items()}:
            raise InputError(f"the model made {shapes}, it promised {dict(backend.parameters)}")
        if bad := [name for name, values in tensors.items() if not np.isfinite(values).all()]:
            raise InputError(
                f"the model makes NaN or infinities in {bad[0]} (for request {place + 1} of {_REQUESTS} as "
                "devices send them): it is not finite itself, or was trained into overflow"
            )
    if len(made) != _REQUESTS:
        raise InputError(f"the model answered {len(made)} of {_REQUESTS} requests")
