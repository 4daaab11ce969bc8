"""The dashboard's routes over HTTP, on SQLite and on PostgreSQL: roles, answers, and the live stream."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from processes import service
from test_identity import Cloud, cloud, enrolled, observed

from paramcast.device import CloudClient
from paramcast.server import Database
from paramcast.server.admin.live import STREAMS
from paramcast.server.db import identities, recalls

__all__ = ["cloud"]
PATHS = ["/me", "/overview", "/live", "/devices", "/map", "/versions", "/versions/compare?first=1&second=2"]
PATHS += ["/recalls", "/events"]


def events(reply: httpx2.Response) -> Iterator[dict[str, Any]]:
    for line in reply.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("path", PATHS)
def test_nobody_without_a_token_is_told_anything(cloud: Cloud, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer x"}):
        reply = httpx2.get(f"{cloud.url}/v1/operator{path}", headers=headers)
        assert (reply.status_code, "token" in reply.json()["error"]) == (401, True)


def test_a_device_that_adapts_is_seen_everywhere(cloud: Cloud, tmp_path: Path) -> None:
    viewer, api = cloud.grant("ann", "viewer"), f"{cloud.url}/v1/operator"
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
        runtime = observed(tmp_path / "bundle")
        client.adapt(runtime)
        client.adapt(runtime)
        client.report(2, applied=True, gain=2.5)

    def get(path: str) -> Any:
        reply = httpx2.get(api + path, headers=viewer)
        assert reply.status_code == 200, reply.text
        return reply.json()

    assert get("/me") == {"name": "ann", "role": "viewer"}
    seen = get("/overview?span=hour")
    assert seen["overview"]["devices"] == {"known": 1, "active": 1, "adapted": 1, "applied": 1, "refused": 0}
    assert seen["overview"]["total"]["packages"] == 2
    assert seen["overview"]["total"]["bytes_up"] == 2 * len(runtime.request().encode())
    assert seen["answers"]["200"] == 2
    (device,) = get("/devices?search=CAM")["devices"]
    assert (device["id"], device["access"], device["gain"]) == ("cam-1", "enrolled", 2.5)
    told = get("/devices/cam-1")
    assert [package["sequence"] for package in told["packages"]] == [2, 1]
    assert (told["reports"][0]["gain"], told["gain"]["mean"]) == (2.5, 2.5)
    assert (told["x"], get("/map")["occupied"]) == (None, [])  # no device waits for the map
    cloud.app.service.write_places()
    told = get("/devices/cam-1")
    (cell,) = get("/map")["occupied"]
    left, bottom, size = (get("/map")[name] for name in ("left", "bottom", "size"))
    assert cell["column"] == (told["x"] - left) // size
    assert cell["row"] == (told["packages"][0]["y"] - bottom) // size
    (version,) = get("/versions")
    assert (version["standing"], version["packages"], version["gain"]["count"]) == ("folder", 2, 1)
    missing = httpx2.get(f"{api}/versions/compare?first=1&second=2", headers=viewer)
    assert (missing.status_code, missing.json()["error"]) == (403, "there is no version 1")


def test_what_is_called_back_is_shown_to_viewers_and_acts_to_operators(cloud: Cloud) -> None:
    viewer, api = cloud.grant("ann", "viewer"), f"{cloud.url}/v1/operator"
    assert httpx2.get(f"{api}/recalls", headers=viewer).json() == []
    with cloud.database.writing("ann") as connection:
        said = recalls.call_back(connection, "a" * 64, 5000)
        recalls.send_to_base(connection, "b" * 64, True, 6000)
    first, second = httpx2.get(f"{api}/recalls", headers=viewer).json()
    assert first == {
        "model": "a" * 64,
        "number": said.number,
        "since": 5000,
        "to_base": False,
        "withdrawn": [],
    }
    assert (second["model"], second["to_base"], second["since"]) == ("b" * 64, True, 0)
    assert httpx2.get(f"{api}/events", headers=viewer).status_code == 403
    told = httpx2.get(f"{api}/events", headers=cloud.grant("bob", "operator")).json()
    acts = [(one["who"], one["about"]["model"]) for one in told if one["what"] == "recalled"]
    assert acts == [("ann", "b" * 64), ("ann", "a" * 64)]


def test_the_stream_goes_on_until_the_token_ends(cloud: Cloud) -> None:
    viewer = cloud.grant("ann", "viewer")
    url = f"{cloud.url}/v1/operator/live?span=week"
    with httpx2.stream("GET", url, headers=viewer, timeout=30) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        told = events(reply)
        assert next(told)["overview"]["devices"]["known"] == 0
        assert len(next(told)["overview"]["timeline"]) == 56
        cloud.grant("ann", "viewer")  # a new token ends the old one
        list(told)
    assert httpx2.get(url, headers=viewer).status_code == 401


def test_of_one_operator_s_many_streams_the_newest_go_on(cloud: Cloud) -> None:
    viewer, url = cloud.grant("ann", "viewer"), f"{cloud.url}/v1/operator/live"
    with ExitStack() as open_ones:
        told = []
        for _ in range(STREAMS + 2):
            reply = open_ones.enter_context(httpx2.stream("GET", url, headers=viewer, timeout=30))
            told.append(events(reply))
            next(told[-1])
        for oldest in told[:2]:
            list(oldest)  # has ended
        assert next(told[2])
        assert next(told[-1])


def test_who_watches_does_not_keep_a_service_from_ending(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db")
    with database.writing() as connection:
        token = identities.grant(connection, "ann", "viewer", 1)
    database.close()
    with service(tmp_path, "--state", tmp_path / "state.db") as running:
        headers = {"authorization": f"Bearer {token}"}
        with httpx2.stream("GET", f"{running.url}/v1/operator/live", headers=headers, timeout=30) as reply:
            told = events(reply)
            next(told)
            running.process.send_signal(signal.SIGTERM)
            list(told)  # ends whole, and not by a connection that breaks off
        assert running.process.wait(20) in (0, -signal.SIGTERM)
