"""What the dashboard reads of the state, on SQLite and on PostgreSQL, against plain sums in Python."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select
from test_state import package

from paramcast.protocol import AdaptRequest
from paramcast.server import Database, StateInputError
from paramcast.server.db import identities, published
from paramcast.server.db.gains import Gain, gain_of_device, gain_of_fleet
from paramcast.server.db.ledger import Place, issued_to, keep_places, record, take_sequences
from paramcast.server.db.overview import overview
from paramcast.server.db.registry import fleet_map, list_devices, reported_by
from paramcast.server.db.schema import devices, feedback
from paramcast.server.db.versions import compare, version_records
from paramcast.server.places import FARTHEST, place_of

MODEL = "a" * 64
MINUTE = 60_000
NOW = 1_000 * MINUTE + 17


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


def ask(database: Database, *names: str, at: int = NOW, place: tuple[int, int] | None = None) -> None:
    with database.writing() as connection:
        numbers = take_sequences(connection, [(name, 0) for name in names], at)
        if place:
            given = zip(names, numbers, strict=True)
            keep_places(connection, [Place(name, number, MODEL, *place) for name, number in given])


def report(database: Database, device: str, sequence: int, **told: Any) -> None:
    row = {"device": device, "sequence": sequence, "applied": True, "received_at": NOW, **told}
    with database.writing() as connection:
        connection.execute(insert(feedback).values(row))


def page(database: Database, **options: Any) -> Any:
    given = {"search": "", "kind": "all", "after": None, "limit": 50, "now_ms": NOW, **options}
    with database.reading() as connection:
        return list_devices(connection, **given)


def names(database: Database, **options: Any) -> list[str]:
    return [device.id for device in page(database, **options).devices]


def test_the_timeline_is_what_was_issued(database: Database) -> None:
    rng = np.random.default_rng(0)
    issued = [
        package(
            f"cam-{number}",
            issued_at=int(NOW - rng.integers(0, 12 * MINUTE)),
            latency_us=int(rng.integers(300, 9000)),
            bytes=int(rng.integers(400, 600)),
            request_bytes=None if number % 7 == 0 else 1000 + number,
        )
        for number in range(400)
    ]
    with database.writing() as connection:
        record(connection, issued)
    with database.reading() as connection:
        found = overview(connection, NOW, MINUTE, 10)
    assert found.since == 991 * MINUTE
    for number, bucket in enumerate(found.timeline):
        begin = found.since + number * MINUTE
        mine = [one for one in issued if begin <= one.issued_at < begin + MINUTE]
        assert (bucket.begins_at, bucket.packages) == (begin, len(mine))
        assert bucket.bytes_down == sum(one.bytes for one in mine)
        assert bucket.bytes_up == sum(one.request_bytes or 0 for one in mine)
    within = [one.latency_us / 1000 for one in issued if one.issued_at >= found.since]
    assert found.total.packages == len(within)
    for told, share in ((found.total.latency_p50_ms, 50), (found.total.latency_p95_ms, 95)):
        assert told is not None
        assert 1 / 1.4 < told / np.percentile(within, share) < 1.4


def test_an_empty_state_has_an_overview_of_nothing(database: Database) -> None:
    with database.reading() as connection:
        found = overview(connection, NOW, MINUTE, 3)
        assert asdict(found.devices) == dict.fromkeys(("known", "active", "adapted", "applied", "refused"), 0)
        assert [bucket.packages for bucket in found.timeline] == [0, 0, 0]
        assert (found.total.latency_p50_ms, found.gain, found.reasons) == (None, None, [])
        assert (fleet_map(connection, None).occupied, version_records(connection)) == ([], [])
    assert page(database).total == 0


def test_devices_are_counted_by_what_they_did(database: Database) -> None:
    ask(database, "old", at=NOW - 100 * MINUTE)
    ask(database, "a", "b", "c")
    with database.writing() as connection:
        token = identities.new_enrolment(connection, "new", NOW, 1000)
        identities.enrol(connection, token, "new", "e" * 64, NOW)
    for sequence in (1, 2):
        report(database, "a", sequence, gain=2.0 * sequence)
    report(database, "b", 1, gain=-1.0)
    report(database, "c", 1, applied=False, reason="NotFinite")
    report(database, "c", 1, applied=False)
    report(database, "old", 1, applied=False, reason="Expired", received_at=NOW - 100 * MINUTE)
    with database.reading() as connection:
        found = overview(connection, NOW, MINUTE, 10)
        since = connection, NOW - 9 * MINUTE
        assert found.gain == gain_of_fleet(*since)
    assert asdict(found.devices) == {"known": 5, "active": 4, "adapted": 4, "applied": 2, "refused": 1}
    assert [(one.reason, one.devices) for one in found.reasons] == [("", 1), ("NotFinite", 1)]
    assert found.gain is not None
    assert (found.gain.mean, found.gain.count) == (1.0, 2)  # of 3 and -1: each device counts once


def test_the_registry_is_paged_and_searched(database: Database) -> None:
    every = sorted(f"cam-{number}" for number in range(25))
    ask(database, *every)
    ask(database, "Door_1", "Door%2")
    seen: list[str] = []
    after = None
    while True:
        found = page(database, search="cam-", after=after, limit=10)
        assert found.total == 25
        seen += [device.id for device in found.devices]
        after = found.next
        if after is None:
            break
    assert sorted(seen) == every
    assert len(seen) == 25
    assert names(database, search="CAM-2") == ["cam-2", *[f"cam-{n}" for n in range(20, 25)]]
    assert names(database, search="_") == ["Door_1"]
    assert names(database, search="%") == ["Door%2"]
    assert names(database, search="nothing") == []


def test_the_registry_is_filtered(database: Database) -> None:
    ask(database, "open", "ill", "mended")
    with database.writing() as connection:
        for number, name in enumerate(["well", "fresh", "gone"]):
            token = identities.new_enrolment(connection, name, NOW, 1000)
            identities.enrol(connection, token, name, str(number) * 64, NOW)
        identities.revoke(connection, "gone", NOW)
    ask(database, "well")  # behind its enrolment, with which its numbers begin anew
    report(database, "well", 1, gain=1.5)
    report(database, "ill", 1, applied=False, reason="Expired")
    report(database, "mended", 1, applied=False, reason="Expired")
    report(database, "mended", 1, gain=0.5)
    assert names(database, kind="adapted") == ["ill", "mended", "open", "well"]
    assert names(database, kind="waiting") == ["fresh", "gone"]
    assert names(database, kind="refused") == ["ill"]
    assert names(database, kind="revoked") == ["gone"]
    shown = {device.id: device for device in page(database).devices}
    access = {name: device.access for name, device in shown.items()}
    assert access == {
        "fresh": "enrolled",
        "gone": "revoked",
        "ill": "open",
        "mended": "open",
        "open": "open",
        "well": "enrolled",
    }
    assert (shown["ill"].applied, shown["ill"].reason) == (False, "Expired")
    assert (shown["mended"].applied, shown["mended"].gain) == (True, 0.5)
    assert shown["open"].applied is None
    with database.reading() as connection:
        assert [row["gain"] for row in reported_by(connection, "mended", 1)] == [0.5]


def test_the_map_holds_every_device_at_its_newest_place(database: Database) -> None:
    ask(database, "a", place=(-300, 20))
    ask(database, "a", place=(100, -50))
    ask(database, "a")  # of nowhere: it stays
    ask(database, "b", "c", place=(100, -50))
    ask(database, "d", place=(-100, 50))
    ask(database, "unplaced")
    with database.reading() as connection:
        found = fleet_map(connection, None)
        assert fleet_map(connection, MODEL) == found
        assert fleet_map(connection, "b" * 64).model is None
    assert [(one.model, one.devices) for one in found.models] == [(MODEL, 4)]
    cells = {(cell.column, cell.row): cell.devices for cell in found.occupied}
    expected = {
        ((x - found.left) // found.size, (y - found.bottom) // found.size): number
        for x, y, number in ((100, -50, 3), (-100, 50, 1))
    }
    assert (cells, found.outside) == (expected, 0)


def test_what_lies_far_away_is_counted_and_does_not_stretch_the_map_without_end(database: Database) -> None:
    for number in range(60):
        ask(database, f"cam-{number}", place=(number, -number))
    ask(database, "far", place=(FARTHEST, FARTHEST))
    with database.reading() as connection:
        found = fleet_map(connection, None)
    assert found.outside == 1
    assert sum(cell.devices for cell in found.occupied) == 60


def test_versions_are_told_apart_by_what_they_did(database: Database) -> None:
    with database.writing() as connection:
        first, second, third = (
            published.publish(
                connection, model=MODEL, digest=digest, form="codes", task="qa", share=share, now_ms=NOW
            ).version
            for share, digest in ((100, "d" * 64), (100, "d" * 64), (10, "e" * 64))
        )
        published.withdraw(connection, None, NOW)
        issued = [package(f"cam-{number}", 1, version=first, bytes=400) for number in range(3)]
        issued += [package(f"cam-{number}", 2, version=second, bytes=500) for number in range(3)]
        record(connection, [*issued, package("cam-9", 1), package("cam-9", 2)])
    for number, (before, after) in enumerate([(1.0, 3.0), (2.0, 4.0), (3.0, 5.0)]):
        report(database, f"cam-{number}", 1, gain=before)
        report(database, f"cam-{number}", 2, gain=after)
    report(database, "cam-9", 1, applied=False, reason="Expired")
    with database.reading() as connection:
        found = {one.version: one for one in version_records(connection)}
        both = compare(connection, first, second)
        with pytest.raises(StateInputError, match="no version 99"):
            compare(connection, first, 99)
        assert compare(connection, first, third).difference is None
    assert {version: one.standing for version, one in found.items()} == {
        first: "replaced",
        second: "serving",
        third: "withdrawn",
        None: "folder",
    }
    assert (found[first].packages, found[first].devices, found[first].bytes_down) == (3, 3, 400.0)
    assert (found[None].packages, found[None].devices, found[None].refused) == (2, 1, 1)
    assert found[first].gain == Gain.of_sums(3, 6.0, 14.0)
    assert both.difference is not None
    assert both.difference.mean == pytest.approx(2.0)
    # Welch, equal variances and sizes: 4 degrees of freedom, standard error sqrt(2 / 3).
    assert both.difference.high == pytest.approx(2.0 + 2.776 * math.sqrt(2 / 3))


def test_gains_have_the_interval_of_student(database: Database) -> None:
    values = [1.0, 2.0, 6.0]
    for sequence, gain in enumerate(values):
        report(database, "a", sequence + 1, gain=gain)
    report(database, "a", 9)
    report(database, "b", 1, gain=4.0)
    with database.reading() as connection:
        found, alone, none = (gain_of_device(connection, name) for name in "abc")
    assert found is not None
    half = 4.303 * np.std(values, ddof=1) / math.sqrt(3)
    np.testing.assert_allclose([found.mean, found.low, found.high], [3, 3 - half, 3 + half], rtol=1e-6)
    assert (alone, none) == (Gain(4.0, None, None, 1), None)
    many = Gain.of_sums(1000, 0.0, 999.0)
    assert many is not None
    assert many.high == pytest.approx(1.96 / math.sqrt(1000))


def test_a_place_is_the_first_entry_of_what_was_seen_and_asked() -> None:
    anchors = np.array([[1.0, 9], [2.5, 9]], "f4")
    request = AdaptRequest("a", MODEL, 0, anchors, np.array([[-0.256, 1]], "f4"), np.zeros(1, np.int64))
    assert place_of(request) == (175, -26)
    silent = AdaptRequest("a", MODEL, 0, 1e9 * anchors, np.zeros((0, 2), "f4"), np.zeros(0, np.int64))
    assert place_of(silent) == (FARTHEST, 0)
    unasked = AdaptRequest("a", MODEL, 0, anchors, np.zeros((0, 1), "f4"), np.zeros(0, np.int64))
    assert place_of(unasked) == (
        175,
        900,
    )  # nothing is ever asked: two axes of what is seen


def test_the_newest_package_says_where_a_device_is(database: Database) -> None:
    with database.writing() as connection:
        for _ in range(3):
            take_sequences(connection, [("a", 0), ("b", 0)], NOW)
        record(connection, [package("a", sequence=number, model=MODEL) for number in (1, 2, 3)])
    newest, early = Place("a", 3, MODEL, 30, 31), Place("a", 2, MODEL, 20, 21)
    with database.writing() as connection:
        keep_places(connection, [Place("a", 1, MODEL, 10, 11), newest, Place("b", 3, MODEL, 5, 6)])
    with database.writing() as connection:  # another service, which comes later with an older one
        keep_places(connection, [early, Place("gone", 1, MODEL, 0, 0)])
    with database.reading() as connection:
        rows = connection.execute(select(devices.c.id, devices.c.x, devices.c.y).order_by(devices.c.id)).all()
        track = [(one["x"], one["y"]) for one in issued_to(connection, "a")]
    assert [tuple(row) for row in rows] == [("a", 30, 31), ("b", 5, 6)]
    assert track == [(30, 31), (20, 21), (10, 11)]
