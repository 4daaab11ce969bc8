"""Builds a whole service from its settings, for `paramcast serve` and for each replica under Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paramcast.errors import InputError
from paramcast.protocol import Delegation, MessageError, load_or_make_key, public_key_hex
from paramcast.server.app import create_app
from paramcast.server.db import Database, StateError
from paramcast.server.db.journal import Journal
from paramcast.server.request_guard import RequestGuard
from paramcast.server.service import AdaptService
from paramcast.server.serving import Models, PublishedModels
from paramcast.server.store import ModelStore
from paramcast.server.tracing import OpenTelemetryTracing, Tracing

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from paramcast.server.settings import Settings


@dataclass(frozen=True)
class Launched:
    """A service that is ready to run.

    Attributes:
        app: The application that answers requests over HTTP.
        service: The service behind it, which answers requests without HTTP.
        public_key: The key (hex) that signs updates.
        end_streams: Ends the event streams of the dashboard; must be called in the event loop of `app`.
    """

    app: ASGIApp
    service: AdaptService
    public_key: str
    end_streams: Callable[[], None]


def _delegation(path: Path) -> Delegation:
    try:
        return Delegation.read(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the delegation {path}: {error.strerror}") from error
    except MessageError as error:
        raise InputError(f"{path} is no delegation: {error}") from error


@contextmanager
def launched(settings: Settings) -> Iterator[Launched]:
    """Open everything that the service needs, and close it when the block ends.

    Raises:
        InputError: If a setting names a file or value that cannot be used.
        StateError: If the state cannot be used.
    """
    given = Models.of_artifacts(settings.artifact) if settings.artifact else None
    key = load_or_make_key(settings.key)
    delegation = None if settings.delegation is None else _delegation(settings.delegation)
    tracing = OpenTelemetryTracing(settings.otlp_endpoint) if settings.otlp_endpoint else Tracing()
    database = Database.open(settings.where, journal=Journal(settings.journal) if settings.journal else None)
    try:
        models = given or PublishedModels(database, ModelStore.beside(settings.where, settings.store))
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
            tracing=tracing,
            delegation=delegation,
        )
        yield Launched(tracing.traced(app), app.service, public_key_hex(key), app.live.end)
        with suppress(StateError):  # they are only needed for the map
            app.service.write_places()
    finally:
        database.close()
