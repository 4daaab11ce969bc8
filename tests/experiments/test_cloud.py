"""The benches of the cloud run, on states that are filled for real and services that listen."""

from __future__ import annotations

from sqlalchemy import func, select

from experiments.registry import bench_registry
from experiments.scale import bench_scale
from experiments.soak import bench_soak
from experiments.wake import bench_wake
from paramcast.server import Database
from paramcast.server.db.schema import device_keys, devices, packages


def test_the_registry_is_filled_and_asked(url: str) -> None:
    rows = bench_registry(url, seed=1, sizes=(64, 1500))
    kind = url.split(":")[0]
    assert [row["name"] for row in rows] == [f"registry_{kind}_64", f"registry_{kind}_1500"]
    assert rows[0]["ratio"] == 1
    assert all(row["value"] > 0 for row in rows)
    database = Database.open(url)
    with database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(devices)).scalar() == 1500
        assert connection.execute(select(func.count()).select_from(device_keys)).scalar() >= 1500
        asked = connection.execute(select(func.count(packages.c.device.distinct()))).scalar_one()
        assert asked > 1000  # spread over many, not the same few
    database.close()


def test_a_short_soak() -> None:
    rows = {row["name"]: row for row in bench_soak(seconds=6, rate=40, seed=1)}
    assert rows["soak_answers"]["value"] >= 200
    assert 0.5 < rows["soak_memory"]["ratio"] < 1.5
    assert 0 < rows["soak_processor_time"]["value"] < 1000
    assert 2000 < rows["soak_bytes_up"]["value"] < 3000
    assert 100 < rows["soak_bytes_down"]["value"] < 600
    assert 50 < rows["soak_bytes_on_record"]["value"] < 1000


def test_a_small_fleet_wakes_at_once_and_finds_no_room() -> None:
    rows = {row["name"]: row for row in bench_wake(devices=400, seed=1, room=8)}
    assert (rows["wake_served"]["value"], rows["wake_served"]["ratio"]) == (400, 1)
    assert rows["wake_refused"]["value"] > 0  # had to come back, at times of their own
    assert 1 < rows["wake_attempts"]["value"] < 5
    assert rows["wake_other"]["value"] == 0
    assert rows["wake_waiting"]["value"] <= 8
    assert rows["wake_memory"]["ratio"] < 1.5


def test_two_processes_on_one_state_beside_one() -> None:
    rows = {row["name"]: row for row in bench_scale([2], [], None, seconds=1, seed=1)}
    assert list(rows) == ["processes_1", "processes_2"]
    assert rows["processes_1"]["ratio"] == 1
    assert rows["processes_2"]["value"] > 10
    assert 0.2 < rows["processes_2"]["ratio"] < 10
