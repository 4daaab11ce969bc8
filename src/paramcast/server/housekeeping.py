"""Background work of the service: loads published models, fills the map, removes old records."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from paramcast.server.db import StateError
from paramcast.server.db.identities import ROTATION_GRACE_MS, prune_keys, prune_names
from paramcast.server.db.ledger import prune
from paramcast.server.metrics import Metrics
from paramcast.server.service import AdaptService

LOOK_S = 2.0
"""Seconds between two rounds of housekeeping. A rollback takes effect within this time."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def housekeeping(service: AdaptService, keep_s: float, metrics: Metrics) -> AsyncIterator[None]:
    """Run housekeeping in a thread while the block runs; records are kept for `keep_s` seconds."""
    task = asyncio.create_task(_keep_house(service, keep_s, metrics))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_house(service: AdaptService, keep_s: float, metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await asyncio.to_thread(tidy, service, time.time() - keep_s)
            metrics.kept_house.set_to_current_time()
        except StateError as error:  # the database may work again in the next round
            _log.error("housekeeping: %s", error)
        except Exception:  # housekeeping must continue: it notices rollbacks
            _log.exception("housekeeping failed")


def tidy(service: AdaptService, before_s: float) -> None:
    """Run one round: look for published models and recalls, write the map's places, remove some old records.

    Args:
        service: The service.
        before_s: Unix seconds; earlier records are old.

    Raises:
        StateError: If the state cannot be used.
    """
    service.models.refresh()
    service.look_at_recalls()
    service.write_places()
    with service.database.writing() as connection:
        prune(connection, int(1000 * before_s))
        prune_names(connection, int(1000 * before_s))
        prune_keys(connection, int(1000 * time.time()) - ROTATION_GRACE_MS)
    service.database.checkpoint()
