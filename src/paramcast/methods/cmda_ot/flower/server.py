"""The server's side: clients behind Flower's streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from flwr.common import FitIns, GetPropertiesIns, Parameters, ReconnectIns
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.superlink.fleet.grpc_bidi.grpc_bridge import GrpcBridgeClosed
from flwr.server.superlink.fleet.grpc_bidi.grpc_server import start_grpc_server

from paramcast.methods.cmda_ot.codec import decode, encode
from paramcast.methods.cmda_ot.errors import FederationError
from paramcast.methods.cmda_ot.estimator import CMDAOT
from paramcast.methods.cmda_ot.flower import ADDRESS, DOMAIN, FAILURE, NUMBER, OPTIONS, STEP
from paramcast.methods.cmda_ot.messages import Evidence, Global, Guidance, Invitation, Update


class Remote:
    """A client as the server sees it: `server.AnyClient` behind Flower's stream.

    Args:
        name: Its name.
        proxy: Flower's end of the stream.
        greeting: Values of the first message besides the target: options of `CMDAOT` and the client's number.
        timeout: Largest time of a step in seconds; a client that exceeds it is disconnected.
    """

    def __init__(self, name: str, proxy: ClientProxy, greeting: dict[str, Any], timeout: float) -> None:
        self.name = name
        self._proxy, self._greeting, self._timeout = proxy, greeting, timeout

    def evidence(self, invitation: Invitation) -> Evidence:
        """Ask for the votes of its source for the classes of the target."""
        return decode(Evidence, *self._ask("evidence", invitation, self._greeting))

    def choose(self, guidance: Guidance) -> None:
        """Ask it to decide whether the transported source is kept."""
        self._ask("choose", guidance)

    def update(self, message: Global) -> Update:
        """Ask for one round of its training."""
        return decode(Update, *self._ask("update", message))

    def _ask(
        self, step: str, message: Any, more: dict[str, Any] | None = None
    ) -> tuple[bytes, dict[str, Any]]:
        data, plain = encode(message)
        ins = FitIns(Parameters([data], "safetensors"), {STEP: step, **plain, **(more or {})})
        try:
            result = self._proxy.fit(ins, self._timeout, None)
        except GrpcBridgeClosed as error:
            raise ConnectionError("it ended, or took longer than the time limit") from error
        if FAILURE in result.metrics:
            raise FederationError(str(result.metrics[FAILURE]))
        return result.parameters.tensors[0], dict(result.metrics)


@contextmanager
def connected(
    estimator: CMDAOT, count: int, address: str, wait: float, timeout: float
) -> Iterator[Sequence[Remote]]:
    """Listen at `address`, wait for clients, and dismiss them at the end.

    Args:
        estimator: Clients receive its options.
        count: Number of clients to wait for.
        address: `host:port`.
        wait: Seconds to wait for all clients.
        timeout: Largest time of a client's step in seconds.

    Yields:
        The clients, ordered by their numbers.

    Raises:
        FederationError: Some clients did not come, or two have the same number.
    """
    manager = SimpleClientManager()
    listener = start_grpc_server(manager, address)
    try:
        if not manager.wait_for(count, int(wait)):
            raise FederationError(
                f"{manager.num_available()} of {count} clients reached {address} within {wait:g} s"
            )
        proxies = {}
        for proxy in list(manager.all().values()):
            with suppress(GrpcBridgeClosed):
                proxies[_domain(proxy, timeout)] = proxy
        if len(proxies) < count:
            raise FederationError(
                f"{count} clients came, but only the domains {sorted(proxies)} are there: give each "
                "client its own --domain"
            )
        options = json.dumps(estimator.get_params())
        yield [
            Remote(str(domain), proxies[domain], {OPTIONS: options, NUMBER: number}, timeout)
            for number, domain in enumerate(sorted(proxies), start=1)
        ]
    finally:
        for proxy in list(manager.all().values()):
            _dismiss(proxy)
        listener.stop(grace=1).wait()


def serve(
    estimator: CMDAOT,
    target: np.ndarray,
    classes: np.ndarray,
    count: int,
    address: str = ADDRESS,
    wait: float = 600,
    timeout: float = 600,
) -> CMDAOT:
    """Fit `estimator` on a target and the sources of `count` clients; see `CMDAOT.federate`, `connected`.

    The same clients in one process give the same result.
    """
    with connected(estimator, count, address, wait, timeout) as clients:
        return estimator.federate(target, classes, clients, at_once=count)


def _domain(proxy: ClientProxy, timeout: float) -> int:
    return int(proxy.get_properties(GetPropertiesIns({}), timeout, None).properties[DOMAIN])


def _dismiss(proxy: ClientProxy) -> None:
    """Tell a client to end; it answers by closing its stream."""
    with suppress(GrpcBridgeClosed):
        proxy.reconnect(ReconnectIns(seconds=None), 10, None)
