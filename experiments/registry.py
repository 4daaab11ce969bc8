"""Cost of an adaptation with a hundred and with a million known devices, in a state that is really filled."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from sqlalchemy import insert
from tqdm import tqdm

from paramcast.bench.rows import row, rows_table
from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, seed_option
from paramcast.protocol import (
    AdaptRequest,
    Credentials,
    SigningKey,
    authorize,
    make_key,
    new_nonce,
    public_key_hex,
)
from paramcast.server import AdaptService, Database, RequestGuard
from paramcast.server.db.schema import device_keys, devices
from paramcast.video.training.serving import OnnxBackend

SIZES = (100, 10_000, 1_000_000)
BATCH, BATCHES, TURNS = 32, 8, 7
ASKING = 2048
"""Number of devices that ask. They are evenly spread over all known devices."""

_FILLED_AT_ONCE = 20_000


def bench_registry(where: str | None, seed: int, sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """Fill a state in steps, and time batches of signed requests at each size.

    Each size is timed in turns with a second, small state of the same kind of service, so that other load on
    the machine affects both.

    Args:
        where: An empty state, a file or URL; without it a temporary SQLite file.
        seed: Seed of the made-up requests.
        sizes: Numbers of known devices, ascending.
    """
    model = untrained_model("codes")
    backend, asked = OnnxBackend(model), made_up_request(model, "device", seed=seed)
    database = Database.open(where) if where else Database.temporary()
    small = _Asking(Database.temporary(), backend, asked)
    small.grow(sizes[0])
    grown = _Asking(database, backend, asked)
    rows: list[dict[str, Any]] = []
    first = 0.0
    for size in sizes:
        grown.grow(size)
        times = np.array([(grown.batches(), small.batches()) for _ in range(TURNS)])
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        first = first or ratio
        kind = database.engine.dialect.name
        against = f"{sizes[0]} devices; each timed beside a SQLite state of {sizes[0]}"
        value = 1e3 * float(np.median(times[:, 0])) / (BATCH * BATCHES)
        rows.append(row(f"registry_{kind}_{size}", value, "ms/adaptation", against, ratio / first))
    database.close()
    return rows


class _Asking:
    """A service with enrolled devices, some of which ask."""

    def __init__(self, database: Database, backend: OnnxBackend, asked: AdaptRequest) -> None:
        self._database, self._known = database, 0
        self._service = AdaptService(
            backend,
            make_key(),
            lifetime_s=3600,
            database=database,
            gate=RequestGuard(required=True),
        )
        self._asked = asked
        self._signing: set[int] = set()

    def grow(self, size: int) -> None:
        """Enroll devices until `size` are known."""
        places = np.unique(np.linspace(0, size - 1, min(ASKING, size)).astype(int)).tolist()
        asking = set(places)
        for begin in tqdm(range(0, size, _FILLED_AT_ONCE), desc=f"{size} devices", disable=None):
            part = range(begin, min(begin + _FILLED_AT_ONCE, size))
            with self._database.writing() as connection:
                self._enrol(connection, part, asking)
        self._database.take_stock()
        self._known = max(size, self._known)
        self._names = [_name(place) for place in places]
        np.random.default_rng(0).shuffle(self._names)
        self._next = 0
        self.batches()  # the first batches fill the caches

    def _enrol(self, connection: Any, places: range, asking: set[int]) -> None:
        """Enroll new devices with random keys; devices that will ask get a key that is known here."""
        new = [place for place in places if place >= self._known]
        if new:
            seen = {"sequence": 0, "first_seen_at": 1, "last_seen_at": 1}
            connection.execute(insert(devices), [{"id": _name(place), **seen} for place in new])
        keys = [
            {"public_key": secrets.token_hex(32), "device": _name(place), "added_at": 1}
            for place in new
            if place not in asking
        ]
        keys += [
            {"public_key": public_key_hex(_key(_name(place))), "device": _name(place), "added_at": 2}
            for place in places
            if place in asking and place not in self._signing
        ]
        self._signing |= asking & set(places)
        if keys:
            connection.execute(insert(device_keys), keys)

    def batches(self) -> float:
        """Measure the seconds of some batches, from the first byte read to the last update recorded."""
        sent = []
        for _ in range(BATCH * BATCHES):
            name = self._names[self._next % len(self._names)]
            self._next += 1
            body = replace(self._asked, device=name).encode()
            header = authorize(
                _key(name),
                device=name,
                method="POST",
                path="/v1/adapt",
                body=body,
                time_us=time.time_ns() // 1000,
                nonce=new_nonce(),
            )
            sent.append((body, Credentials.read(header)))
        begin = time.perf_counter()
        for place in range(0, len(sent), BATCH):
            outcomes = self._service.answer([self._service.read(*one) for one in sent[place : place + BATCH]])
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
        return time.perf_counter() - begin


def _name(place: int) -> str:
    """Make a name. A hash spreads the names over the index, like names of real devices."""
    return f"cam-{hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()}"


def _key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


@click.command(name="registry", context_settings={"show_default": True})
@click.option("--state", help="An empty state: a file or a URL.  [default: a temporary SQLite file]")
@click.option(
    "--devices",
    "sizes",
    multiple=True,
    default=(100, 10_000, 1_000_000),
    type=click.IntRange(32),
    help="Devices known, rising; may be given several times.",
)
@seed_option
@json_option
def command(state: str | None, sizes: tuple[int, ...], seed: int, json_file: Path | None) -> None:
    """Time an adaptation, signed and recorded, with few known devices and with many."""
    rows = bench_registry(state, seed, sorted(sizes))
    tell(rows_table(rows), rows, seed, json_file)
