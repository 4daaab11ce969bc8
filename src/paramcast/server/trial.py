"""Whether a model makes what may be sent, tried with requests as devices send them."""

from __future__ import annotations

import numpy as np

from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest
from paramcast.server.backend import AdaptBackend

_REQUESTS = 64
_MOST_CLIPS, _MOST_QUERIES = 16, 16


def trial_requests(backend: AdaptBackend, count: int, device: str = "probe") -> list[AdaptRequest]:
    """Made-up requests, always the same ones: features of standard deviation 0.1 to 3, some clips of them.

    Features that are all alike would not do: what is wrong with a model shows for some requests only.
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
    """Return if the model makes complete, finite updates for 64 requests as devices send them.

    Raises:
        InputError: It does not, and would fail on devices.
    """
    requests = trial_requests(backend, _REQUESTS)
    try:
        made = backend.generate(requests)
    except Exception as error:  # whatever a model may raise
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
