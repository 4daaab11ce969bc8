"""A small, real generator in numpy, and a real server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bundles
import numpy as np
import uvicorn

from paramcast.protocol import AdaptRequest


class TinyBackend:
    """Deterministic hypernetwork: parameters = base + a bounded, fixed projection of the mean context."""

    def __init__(self, form: str = "full", task: str = "qa", model: str = bundles.MODEL) -> None:
        self.model, self.form, self.task = model, form, task
        self.parameters = bundles.parameter_shapes(form)
        self.uplink_dims = (bundles.IMAGE_UP, bundles.TEXT_UP)
        rng = np.random.default_rng(7)
        width = sum(self.uplink_dims)
        self._projections = {
            name: rng.normal(size=(width, int(np.prod(shape)))) for name, shape in self.parameters.items()
        }
        self._base = bundles.base_parameters(form)

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        return [self._one(request) for request in requests]

    def _one(self, request: AdaptRequest) -> dict[str, np.ndarray]:
        queries = request.queries.mean(axis=0) if len(request.queries) else np.zeros(self.uplink_dims[1])
        context = np.concatenate([request.anchors.mean(axis=0), queries])
        return {
            name: (self._base[name] + np.tanh(context @ projection).reshape(self.parameters[name])).astype(
                "f4"
            )
            for name, projection in self._projections.items()
        }


class BrokenBackend(TinyBackend):
    """A backend with the fault that `fault` names."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        made = super().generate(requests)
        name = next(iter(made[0]))
        if self.fault == "raises":
            raise RuntimeError("secret of the inside")
        if self.fault == "nan":
            made[0][name][...] = np.nan
        if self.fault == "missing":
            del made[0][name]
        if self.fault == "shape":
            made[0][name] = made[0][name][..., :1]
        if self.fault == "dtype":
            made[0][name] = made[0][name].astype("f8")
        return [] if self.fault == "nothing" else made


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI app with uvicorn on a free port of loopback; yield the URL once it answers."""
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
