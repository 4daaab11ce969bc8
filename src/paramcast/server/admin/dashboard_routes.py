"""Routes of the dashboard: overview of the fleet, also live, pages of devices, the map, versions."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from paramcast.server.admin.live import Glance, Live, Span
from paramcast.server.admin.operators import PREFIX, RESPONSES, Operator, admitted, needs, token_of
from paramcast.server.db import Database
from paramcast.server.db.recalls import Recall, known_models, recall_of
from paramcast.server.db.registry import Devices, FleetMap, Kind, fleet_map, list_devices
from paramcast.server.db.versions import Comparison, VersionRecord, compare, version_records

_Model = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="sha256 of the base model")]
_Search = Annotated[str, Query(max_length=128, pattern="^[^\\x00]*$", description="part of a device's name")]
_After = Annotated[str | None, Query(max_length=128, pattern="^[^\\x00]*$", description="`next` of a page")]
_Version = Annotated[int, Query(ge=1, lt=2**31)]
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "events"}
}


def dashboard_routes(database: Database, live: Live) -> APIRouter:
    """Make the routes, which read `database`. All of them need the role `viewer`."""
    viewer = needs(database, "viewer")
    router = APIRouter(prefix=PREFIX, responses=RESPONSES)

    @router.get("/me")
    def me(token: Annotated[str | None, Depends(token_of)]) -> Operator:
        """Return the name and role of the token's operator."""
        return admitted(database, token, "viewer")

    @router.get("/overview", dependencies=[Depends(viewer)])
    def glance(span: Span = "day") -> Glance:
        """Return an overview of the fleet, at most some seconds old."""
        return live.glance(span)

    @router.get("/live", dependencies=[Depends(viewer)], response_class=StreamingResponse, responses=_EVENTS)
    async def stream(
        token: Annotated[str | None, Depends(token_of)], span: Span = "day"
    ) -> StreamingResponse:
        """Send the overview as server-sent events every two seconds, as long as the token is valid."""

        def look() -> Glance:
            admitted(database, token, "viewer")
            return live.glance(span)

        who = await run_in_threadpool(admitted, database, token, "viewer")
        await run_in_threadpool(look)  # so that an error is an answer and does not break the stream
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(live.stream(look, who.name), media_type="text/event-stream", headers=headers)

    @router.get("/devices", dependencies=[Depends(viewer)])
    def devices(
        search: _Search = "",
        kind: Kind = "all",
        after: _After = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Devices:
        """List a page of devices, ordered by name."""
        now_ms = int(1000 * time.time())
        with database.reading() as connection:
            return list_devices(connection, search=search, kind=kind, after=after, limit=limit, now_ms=now_ms)

    @router.get("/map", dependencies=[Depends(viewer)])
    def where(model: _Model = None) -> FleetMap:
        """Return the number of devices in each cell of a base model's map, by their newest contexts."""
        with database.reading() as connection:
            return fleet_map(connection, model)

    @router.get("/versions", dependencies=[Depends(viewer)])
    def versions() -> list[VersionRecord]:
        """List all versions, the newest first, with their recorded results."""
        with database.reading() as connection:
            return version_records(connection)

    @router.get("/recalls", dependencies=[Depends(viewer)])
    def called_back() -> list[Recall]:
        """List the recalls of all base models in the state; devices get them by signed notices."""
        with database.reading() as connection:
            return [recall_of(connection, model) for model in sorted(known_models(connection))]

    @router.get("/versions/compare", dependencies=[Depends(viewer)])
    def beside(first: _Version, second: _Version) -> Comparison:
        """Compare two published versions."""
        with database.reading() as connection:
            return compare(connection, first, second)

    return router
