"""The client's side: a source that answers the server's requests."""

from __future__ import annotations

import json
import logging
from typing import Any

import grpc
import numpy as np
from flwr.client import Client as FlowerClient
from flwr.client import start_client
from flwr.common import Code, FitIns, FitRes, GetPropertiesIns, GetPropertiesRes, Parameters, Status

from paramcast.methods.cmda_ot.client import Client
from paramcast.methods.cmda_ot.codec import decode, encode
from paramcast.methods.cmda_ot.errors import FederationError, FederationInputError
from paramcast.methods.cmda_ot.estimator import CMDAOT
from paramcast.methods.cmda_ot.flower import DOMAIN, FAILURE, NUMBER, OPTIONS, STEP
from paramcast.methods.cmda_ot.messages import Evidence, Global, Guidance, Invitation, Update

_log = logging.getLogger(__name__)
_OK = Status(Code.OK, "")


class Source(FlowerClient):  # type: ignore[misc]
    """One source, which never leaves its process.

    Args:
        domain: Number of the source >= 1; every client has a different one.
        X: (n, D) float64, its samples.
        codes: (n,) int, their classes, in [0, C) as the server numbers them.
    """

    def __init__(self, domain: int, X: np.ndarray, codes: np.ndarray) -> None:
        self._domain, self._X, self._codes = domain, X, codes

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Return the number of the source, so that the server can distinguish its clients."""
        return GetPropertiesRes(_OK, {DOMAIN: self._domain})

    def fit(self, ins: FitIns) -> FitRes:
        """Take one step. An error is reported and does not end the process: the server asks again."""
        config = dict(ins.config)
        try:
            answer = self.answer(str(config.pop(STEP)), ins.parameters.tensors[0], config)
            data, plain = (b"", {}) if answer is None else encode(answer)
        except Exception as error:
            _log.exception("this step failed")
            data, plain = b"", {FAILURE: str(error) or type(error).__name__}
        return FitRes(_OK, Parameters([data], "safetensors"), len(self._codes), plain)

    def answer(self, step: str, data: bytes, plain: dict[str, Any]) -> Evidence | Update | None:
        """Return the answer of the source to one message."""
        if step == "evidence":
            options, number = json.loads(plain.pop(OPTIONS)), int(plain.pop(NUMBER))
            invitation = decode(Invitation, data, plain)
            self._check(invitation)
            self._client: Client = CMDAOT(**options).client(str(self._domain), self._X, self._codes, number)
            return self._client.evidence(invitation)
        if step == "choose":
            self._client.choose(decode(Guidance, data, plain))
            return None
        return self._client.update(decode(Global, data, plain))

    def _check(self, invitation: Invitation) -> None:
        columns = invitation.target.shape[1]
        if self._X.shape[1] != columns:
            raise FederationInputError(f"its source has {self._X.shape[1]} columns, the target {columns}")
        if self._codes.max() >= invitation.classes:
            raise FederationInputError(
                f"its source has class {self._codes.max()}, but there are {invitation.classes}, from 0 on"
            )


def join(source: Source, address: str, wait: float = 600) -> None:
    """Be a client of the server at `address` until the server ends it.

    Args:
        source: Answers the messages.
        address: `host:port`.
        wait: Seconds to wait for the server.

    Raises:
        FederationError: The server is not there after this time.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(wait)
        except grpc.FutureTimeoutError as error:
            raise FederationError(f"there is no server at {address} after {wait:g} s") from error
    start_client(server_address=address, client=source, insecure=True)
