"""A fleet in a server's database: real requests to a real service, at times in the past."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from backends import TinyBackend
from bundles import IMAGE_UP, MODEL, TEXT_UP
from sqlalchemy import insert

from paramcast.protocol import AdaptRequest, SigningKey
from paramcast.server import AdaptService, Database, ModelStore, PublishedModels, Served
from paramcast.server.db import identities, published
from paramcast.server.db.schema import feedback

DOMAINS = 5
REASONS = ("Expired", "WrongModel", "NotFinite")


class Fleet:
    """Devices of a few domains that adapted over the last day, to one of two versions of a model."""

    def __init__(self, folder: Path, key: SigningKey, *, devices: int, rounds: int) -> None:
        """Make the fleet in `folder/state.db`; each device asks `rounds` times and often sends a report."""
        self.database = Database.open(folder / "state.db")
        self._rng = np.random.default_rng(3)
        self._now = time.time()
        self._centres = self._rng.normal(0, 1, (DOMAINS, IMAGE_UP + TEXT_UP))
        self._drift = self._rng.normal(0, 0.25, (devices, IMAGE_UP + TEXT_UP))
        store = ModelStore(folder / "state.models")
        for name in ("first", "second"):
            (folder / name).mkdir()
            (folder / name / "weights").write_text(name)
        first = self._publish(store.add(folder / "first"), 100)
        self.models = PublishedModels(self.database, store, lambda _: Served(TinyBackend("codes")))
        self._clock = 0.0
        service = AdaptService(
            self.models, key, lifetime_s=86400, database=self.database, clock=lambda: self._clock
        )
        self.names = [f"cam-{number:05d}" for number in range(devices)]
        self.versions = [first]
        for turn in range(rounds):
            if turn == rounds // 2:
                self.versions.append(self._publish(store.add(folder / "second"), 20))
                self.models.refresh()
            self._adapt(service, turn, rounds)
        service.write_places()

    def grant(self, role: str) -> str:
        """Create an operator with this role, and return the operator's token."""
        with self.database.writing() as connection:
            return identities.grant(connection, role.title(), role, int(1000 * self._now))

    def _publish(self, digest: str, share: int) -> int:
        with self.database.writing() as connection:
            return published.publish(
                connection,
                model=MODEL,
                digest=digest,
                form="codes",
                task="qa",
                share=share,
                now_ms=int(1000 * (self._now - 86400)),
            ).version

    def _adapt(self, service: AdaptService, turn: int, rounds: int) -> None:
        """Let every device ask once, in batches spread over this turn's part of the day, denser later."""
        order = self._rng.permutation(len(self.names))
        parts = np.array_split(order, max(1, len(order) // 16))
        for number, part in enumerate(parts):
            passed = (turn + number / len(parts)) / rounds
            self._clock = self._now - 23.5 * 3600 * (1 - passed**0.7)
            asked = [service.read(self._request(int(place), turn).encode()) for place in part]
            outcomes = service.answer(asked)
            assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            self._report(part, turn)

    def _request(self, place: int, turn: int) -> AdaptRequest:
        middle = self._centres[place % DOMAINS] + turn * self._drift[place]
        clips = middle + self._rng.normal(0, 0.9, (8, IMAGE_UP + TEXT_UP))
        anchors, queries = clips[:, :IMAGE_UP].astype("f4"), clips[:, IMAGE_UP:].astype("f4")
        return AdaptRequest(self.names[place], MODEL, turn, anchors, queries, np.arange(8))

    def _report(self, part: np.ndarray, turn: int) -> None:
        rows = []
        for place in part:
            luck = self._rng.random()
            if luck < 0.7:
                name, late = self.names[place], len(self.versions) > 1
                row = {"device": name, "sequence": turn + 1, "received_at": int(1000 * self._clock)}
                told = {"applied": True, "gain": float(self._rng.normal(2 + late, 3)), "reason": None}
                if luck < 0.03:
                    told = {"applied": False, "gain": None, "reason": REASONS[place % len(REASONS)]}
                rows.append({**row, **told})
        if rows:
            with self.database.writing() as connection:
                connection.execute(insert(feedback), rows)
