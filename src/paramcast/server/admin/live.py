"""The overview of the fleet as it changes: asked of the state once for all who watch."""

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
"""Milliseconds of a bucket, and how many there are."""

PERIOD_S = 2.0
"""Seconds between two looks at the state, at least."""

STREAMS = 8
"""Of one operator at a time: each looks at the state for itself, whether its token still holds."""

_SHARE = 0.05
"""Of the time may be spent on looking, whatever the state's size: it belongs to the devices."""


@dataclass(frozen=True)
class Glance:
    """The overview, and what this process has answered.

    Attributes:
        overview: From the state.
        answers: Answers to `/v1/adapt` since this process began, by status.
        waiting: Requests that wait for a batch now.
    """

    overview: Overview
    answers: dict[int, int]
    waiting: int


class Live:
    """Looks at the state for all who watch, and ends their streams when the service ends."""

    def __init__(self, database: Database, metrics: Metrics, waiting: Callable[[], int]) -> None:
        """Look at `database`; `waiting` tells how many requests wait."""
        self._database, self._metrics, self._waiting = database, metrics, waiting
        self._lock = threading.Lock()
        self._kept: dict[Span, tuple[float, Overview]] = {}
        self._streams: dict[asyncio.Event, str] = {}  # whose it is; the oldest first

    def glance(self, span: Span) -> Glance:
        """The overview, at most some seconds old. Raises StateError."""
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

        A client that connects again gets the reason as an answer.

        Of more than `STREAMS` streams of the operator `who`, the one that began first ends.
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
        """End all streams: called in the loop in which they run, when the service is to end."""
        for ending in self._streams:
            ending.set()


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(ending.wait(), seconds)
    except TimeoutError:
        return
