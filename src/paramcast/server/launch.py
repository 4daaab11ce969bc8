"""A whole service from its settings: what `paramcast serve` runs, and each replica under Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paramcast.protocol import load_or_make_key, public_key_hex
from paramcast.server.app import create_app
from paramcast.server.bundles import BrowserBundle
from paramcast.server.db import Database
from paramcast.server.request_guard import RequestGuard
from paramcast.server.serving import AdaptBackend, PublishedModels
from paramcast.server.store import ModelStore
from paramcast.server.tracing import OpenTelemetryTracing, Tracing

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from paramcast.server.settings import Settings


@dataclass(frozen=True)
class Launched:
    """A service, ready to be served.

    Attributes:
        app: Answers requests.
        public_key: Of its packages (hex).
        end_streams: Ends what would go on for as long as somebody watches; to be called in the app's loop.
    """

    app: ASGIApp
    public_key: str
    end_streams: Callable[[], None]


@contextmanager
def launched(settings: Settings, load: Callable[[Path], AdaptBackend]) -> Iterator[Launched]:
    """Open all that the service needs, until the block ends.

    Args:
        settings: Of the service.
        load: Opens a model's folder.

    Raises:
        InputError: If a setting leads nowhere.
        StateError: If the state cannot be used.
    """
    bundles = [BrowserBundle.open(folder) for folder in settings.bundle]
    key = load_or_make_key(settings.key)
    tracing = OpenTelemetryTracing(settings.otlp_endpoint) if settings.otlp_endpoint else Tracing()
    database = Database.open(settings.where)
    try:
        models = (
            load(settings.model)
            if settings.model is not None
            else PublishedModels(database, ModelStore.beside(settings.where, settings.store), load)
        )
        app = create_app(
            models,
            key,
            lifetime_s=settings.lifetime_s,
            quantization=settings.quantization,
            database=database,
            gate=RequestGuard(
                settings.require_enrolment,
                settings.clock_skew_s,
                settings.rate_per_minute,
                settings.burst,
            ),
            largest_batch=settings.largest_batch,
            waiting_room=settings.waiting_room,
            keep_s=86400 * settings.keep_days,
            bundles=bundles,
            tracing=tracing,
        )
        yield Launched(tracing.traced(app), public_key_hex(key), app.live.end)
    finally:
        database.close()
