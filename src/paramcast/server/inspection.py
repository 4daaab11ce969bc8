"""Checks the state of a running service, at times without requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from paramcast.server.db import Database, StateError
from paramcast.server.db.integrity import Fault, check
from paramcast.server.metrics import Metrics
from paramcast.server.store import ModelStore

EVERY_S = 600.0
"""Seconds between two checks of an idle service."""

LATEST_S = 6 * 3600.0
"""Seconds after which a busy service checks as well."""

_PAUSE_S = 2.0

_log = logging.getLogger(__name__)


class Inspection:
    """Checks the state at intervals, writes faults to the log and their number to the metrics.

    Attributes:
        faults: Faults that the last check found.
    """

    def __init__(
        self,
        database: Database,
        store: ModelStore | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check `database` (give one with separate connections, so that no device waits) and `store`."""
        self._database, self._store, self._metrics, self._clock = database, store, metrics, clock
        self._looked = clock() - EVERY_S
        self._answers = -1
        self.faults: list[Fault] = []

    def look_if_idle(self) -> bool:
        """Check the state if it is time and nothing was answered since the last call.

        Returns:
            Whether the state was checked.

        Raises:
            StateError: If the state cannot be read.
        """
        answers = sum(self._metrics.answered().values())
        idle, self._answers = answers == self._answers, answers
        since = self._clock() - self._looked
        if since < EVERY_S or not (idle or since >= LATEST_S):
            return False
        self._looked = self._clock()
        found = check(self._database, self._store, whole=False)
        for fault in found:
            if fault not in self.faults:
                _log.error("integrity: %s. Cure: %s", fault.what, fault.cure)
        for fault in self.faults:
            if fault not in found:
                _log.info("integrity: no longer found: %s", fault.what)
        self.faults = found
        self._metrics.faults.set(len(found))
        return True


@asynccontextmanager
async def inspecting(inspection: Inspection) -> AsyncIterator[None]:
    """Check in a separate thread while the block runs, so that housekeeping does not wait for it."""
    task = asyncio.create_task(_inspect(inspection))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _inspect(inspection: Inspection) -> None:
    while True:
        await asyncio.sleep(_PAUSE_S)
        try:
            await asyncio.to_thread(inspection.look_if_idle)
        except StateError as error:  # `/readyz` reports that, too
            _log.error("integrity: %s", error)
        except Exception:  # an unexpected error must not end the checks
            _log.exception("integrity: the check failed")
