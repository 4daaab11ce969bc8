"""Enrolled devices that put a service under load: every request is signed, and sent once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from paramcast.bench.load import http_request
from paramcast.protocol import AdaptRequest, authorize, make_key, new_nonce, public_key_hex
from paramcast.server import Database
from paramcast.server.db import identities

PATH = "/v1/adapt"


class Signers:
    """Endless iterator of signed requests, of each device in turn.

    A device never has two requests under way at once.
    """

    def __init__(self, state: Path | str, requests: Sequence[AdaptRequest], devices: int) -> None:
        """Enroll `devices` devices in `state`; they send the content of `requests`."""
        database, keys = Database.open(state), [make_key() for _ in range(devices)]
        with database.writing() as connection:
            now_ms = int(1000 * time.time())
            for number, key in enumerate(keys):
                token = identities.new_enrolment(connection, None, now_ms, 60_000)
                identities.enrol(connection, token, f"signer-{number}", public_key_hex(key), now_ms)
        database.close()
        self._turn = cycle(
            [
                (key, f"signer-{number}", replace(asked, device=f"signer-{number}").encode())
                for number, (key, asked) in enumerate(zip(keys, cycle(requests), strict=False))
            ]
        )
        self._ready: deque[bytes] = deque()

    def sign(self, count: int) -> None:
        """Sign requests until `count` are ready, so that none is signed during the measurement."""
        self._ready.extend(self._signed() for _ in range(count - len(self._ready)))

    def __iter__(self) -> Iterator[bytes]:
        """Return this iterator."""
        return self

    def __next__(self) -> bytes:
        """Return the next signed request."""
        return self._ready.popleft() if self._ready else self._signed()

    def _signed(self) -> bytes:
        key, device, body = next(self._turn)
        now_us = time.time_ns() // 1000
        header = authorize(
            key, device=device, method="POST", path=PATH, body=body, time_us=now_us, nonce=new_nonce()
        )
        return http_request(PATH, body, f"authorization: {header}\r\n")
