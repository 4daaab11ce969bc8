"""Checks whether updates can be generated now; simultaneous health checks share one result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from fastapi.concurrency import run_in_threadpool

from paramcast.errors import InputError
from paramcast.server.asked import Answer, Asked
from paramcast.server.batching import Batcher
from paramcast.server.db import StateError
from paramcast.server.generating import BackendError
from paramcast.server.service import AdaptService

KEPT_S = 1.0
"""Seconds for which a verdict is reused, so that at most one health check a second costs time."""

_log = logging.getLogger(__name__)


class Health:
    """Verdicts of `/healthz` and `/readyz`: None, or what is wrong."""

    def __init__(self, service: AdaptService, batcher: Batcher[Asked, Answer]) -> None:
        """Check the service through the same batches in which devices get their updates."""
        self._service, self._batcher = service, batcher
        self.model = _Shared(self._model, lambda: service.models.serving)
        self.state = _Shared(self._state, lambda: None)

    async def _model(self) -> str | None:
        try:
            await asyncio.gather(*(self._batcher.ask_first(probe) for probe in self._service.probes()))
            self._service.describe()
        except (BackendError, StateError, InputError) as problem:
            _log.error("health check: %s", problem)
            return str(problem) if isinstance(problem, InputError) else "the log says why"
        return None

    async def _state(self) -> str | None:
        try:
            await run_in_threadpool(self._service.database.check)
        except StateError as problem:
            _log.error("readiness: %s", problem)
            return "the state cannot be written"
        return None


class _Shared:
    """Runs one check at a time, and reuses its verdict for `KEPT_S` unless the value of `about` changes."""

    def __init__(self, look: Callable[[], Awaitable[str | None]], about: Callable[[], object]) -> None:
        self._look, self._about = look, about
        self._under_way: asyncio.Task[str | None] | None = None
        self._until, self._seen = 0.0, about()

    async def verdict(self) -> str | None:
        """Return the verdict of the newest check; run a new one if it is too old."""
        task = self._under_way
        old = time.monotonic() >= self._until or self._about() is not self._seen
        if task is None or (task.done() and old):
            self._seen = self._about()
            task = self._under_way = asyncio.create_task(self._looked())
        return await asyncio.shield(task)  # one client may leave while others wait for the same check

    async def _looked(self) -> str | None:
        try:
            return await self._look()
        finally:
            self._until = time.monotonic() + KEPT_S
