"""Live overview of the fleet: one query of the state serves all watchers."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Literal

from paramcast.errors import ParamcastError
from paramcast.server.db import Database
from paramcast.server.db.overview import Overview, overview
from paramcast.server.metrics import Metrics

_log = logging.getLogger(__name__)

Span = Literal["hour", "day", "week", "month"]
_BUCKETS: dict[Span, tuple[int, int]] = {
    "hour": (60_000, 60),
    "day": (1_800_000, 48),
    "week": (3 * 3_600_000, 56),
    "month": (12 * 3_600_000, 60),
}
"""Span -> milliseconds of a bucket, number of buckets."""

PERIOD_S = 2.0
"""Shortest time between two queries of the state, in seconds."""

STREAMS = 8
"""Largest number of streams of one operator. Every stream reads the state to check its token."""

_SHARE = 0.05
"""Largest share of the time for queries of the overview, also with a large state; the rest is for devices."""


@dataclass(frozen=True)
class Glance:
    """The overview, and the answers of this process.

    Attributes:
        overview: The overview from the state.
        answers: Answers to `/v1/adapt` since this process began, by status.
        waiting: Requests that wait for a batch now.
    """

    overview: Overview
    answers: dict[int, int]
    waiting: int


class Live:
    """Reads the overview for all watchers, and ends their streams when the service ends."""

    def __init__(self, database: Database, metrics: Metrics, waiting: Callable[[], int]) -> None:
        """Read from `database`; `waiting` returns the number of waiting requests."""
        self._database, self._metrics, self._waiting = database, metrics, waiting
        self._lock = threading.Lock()
        self._kept: dict[Span, tuple[float, Overview]] = {}
        self._streams: dict[asyncio.Event, str] = {}  # stream -> operator; the oldest first

    def glance(self, span: Span) -> Glance:
        """Return the overview, at most some seconds old. Raises StateError."""
        with self._lock:
            until, kept = self._kept.get(span, (0.0, None))
            begin = time.monotonic()
            if kept is None or begin >= until:
                with self._database.reading() as connection:
                    kept = overview(connection, int(1000 * time.time()), *_BUCKETS[span])
                took = time.monotonic() - begin
                self._kept[span] = begin + max(PERIOD_S, took / _SHARE), kept
        return Glance(kept, self._metrics.answered(), self._waiting())

    async def stream(self, look: Callable[[], Glance], who: str) -> AsyncIterator[str]:
        """Yield server-sent events until the service ends or `look` raises.

        After an error, a client that connects again gets the error as an answer.

        If the operator `who` has more than `STREAMS` streams, the oldest stream ends.
        """
        ending = asyncio.Event()
        mine = [one for one, name in self._streams.items() if name == who]
        if len(mine) >= STREAMS:
            mine[0].set()
            del self._streams[mine[0]]
        self._streams[ending] = who
        try:
            while not ending.is_set():
                yield f"data: {json.dumps(asdict(await asyncio.to_thread(look)))}\n\n"
                await _wait(ending, PERIOD_S)
        except ParamcastError as error:
            _log.info("a stream ends: %s", error)
        finally:
            self._streams.pop(ending, None)

    def end(self) -> None:
        """End all streams when the service ends; must be called in their event loop."""
        for ending in self._streams:
            ending.set()


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(ending.wait(), seconds)
    except TimeoutError:
        return
