"""Enrolled devices against a real service: tokens, signatures, clocks, keys that change, rates, roles."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP, make_bundle
from sqlalchemy import select

from paramcast.device import AsyncCloudClient, CloudClient, CloudError, DeviceIdentity, DeviceInputError
from paramcast.device import identity as identity_module
from paramcast.device.runtime import DeviceRuntime
from paramcast.protocol import AdaptRequest, BadSignature, endorse, make_key, public_key_hex
from paramcast.protocol.credentials import tell_time
from paramcast.server import Database, RequestGuard, create_app
from paramcast.server.db import identities
from paramcast.server.db.schema import devices, feedback
from paramcast.server.request_guard import TooManyError

KEY = make_key()
REQUEST = AdaptRequest(
    "cam-1", MODEL, 0, np.ones((2, IMAGE_UP), "f4"), np.ones((2, TEXT_UP), "f4"), np.arange(2)
)


class Cloud:
    """A service on a database, and what an operator does to it."""

    def __init__(self, database: Database, **rules: Any) -> None:
        self.database = database
        self.app = create_app(
            TinyBackend(), KEY, database=database, gate=RequestGuard(**{"required": True, **rules})
        )
        self.url = ""

    def token(self, device: str | None = None, hours: float = 1) -> str:
        with self.database.writing() as connection:
            now_ms = int(1000 * time.time())
            return identities.new_enrolment(connection, device, now_ms, int(3_600_000 * hours))

    def revoke(self, device: str) -> int:
        with self.database.writing() as connection:
            return identities.revoke(connection, device, int(1000 * time.time()))

    def grant(self, name: str, role: str) -> dict[str, str]:
        with self.database.writing() as connection:
            return {"authorization": f"Bearer {identities.grant(connection, name, role, 1)}"}

    def signed_at(self) -> int:
        with self.database.reading() as connection:
            return int(connection.execute(select(devices.c.signed_at)).scalar_one())


@pytest.fixture
def cloud(url: str) -> Iterator[Cloud]:
    database = Database.open(url)
    made = Cloud(database)
    with serving(made.app) as made.url:
        yield made
    database.close()


@pytest.fixture
def fresh() -> Iterator[Callable[..., Cloud]]:
    """Makes services with other rules, on temporary databases."""
    with ExitStack() as stack:

        def make(**rules: Any) -> Cloud:
            made = Cloud(Database.temporary(), **rules)
            made.url = stack.enter_context(serving(made.app))
            return made

        yield make


def enrolled(cloud: Cloud, folder: Path, device: str = "cam-1") -> DeviceIdentity:
    with CloudClient(cloud.url) as client:
        return client.enrol(cloud.token(device), folder, device)


def observed(folder: Path, **options: Any) -> DeviceRuntime:
    runtime = DeviceRuntime.load(make_bundle(folder), "cam-1", **options)
    runtime.observe(np.zeros((2, 8, 8, 3), np.uint8), ["what colour is the ball"])
    return runtime


def test_a_device_enrols_and_is_served(cloud: Cloud, tmp_path: Path) -> None:
    runtime = observed(tmp_path / "bundle")
    with CloudClient(cloud.url) as client:
        with pytest.raises(CloudError, match=r"401.*must be signed"):
            client.adapt(runtime)
        identity = client.enrol(cloud.token("cam-1"), tmp_path / "id", "cam-1")
        assert [client.adapt(runtime).sequence for _ in range(2)] == [1, 2]
    assert runtime.public_key == identity.cloud_key == public_key_hex(KEY)
    again = DeviceIdentity.load(tmp_path / "id")
    assert again.public_key == identity.public_key
    assert (tmp_path / "id" / "device.key").stat().st_mode & 0o077 == 0
    with CloudClient(cloud.url, identity=again) as client:
        assert client.adapt(runtime).sequence == 3

    async def adapt() -> int:
        async with AsyncCloudClient(cloud.url, identity=again) as asking:
            return (await asking.adapt(runtime)).sequence

    assert asyncio.run(adapt()) == 4


def test_a_token_enrols_once_and_only_whom_it_is_for(cloud: Cloud, tmp_path: Path) -> None:
    token, late = cloud.token("cam-1"), cloud.token(hours=0)
    with CloudClient(cloud.url) as client:
        for number, (shown, device) in enumerate([(token, "cam-2"), ("no token", "cam-1"), (late, "cam-1")]):
            with pytest.raises(CloudError, match=r"403.*ask for a new token"):
                client.enrol(shown, tmp_path / f"no-{number}", device)
        client.enrol(token, tmp_path / "id", "cam-1")
        with pytest.raises(CloudError, match="403"):
            client.enrol(token, tmp_path / "other", "cam-1")
        client.enrol(cloud.token(), tmp_path / "any", "cam-3")
        with pytest.raises(DeviceInputError, match="enrolled device"):
            client.enrol(cloud.token(), tmp_path / "id", "cam-1")
        with pytest.raises(DeviceInputError, match="device id"):
            client.enrol(cloud.token(), tmp_path / "bad", "cam/1")
    with pytest.raises(DeviceInputError, match="no identity"):
        DeviceIdentity.load(tmp_path / "no-0")


def test_a_try_to_enrol_that_was_cut_off_is_repeated_with_the_same_key(cloud: Cloud, tmp_path: Path) -> None:
    first = DeviceIdentity.prepare(tmp_path / "id", "cam-1")
    assert enrolled(cloud, tmp_path / "id").public_key == first.public_key


def test_a_lost_answer_to_an_enrolment_is_made_good(cloud: Cloud, tmp_path: Path) -> None:
    """By the same token, as the client itself asks again, and by a new one; not with another key."""
    token = cloud.token("cam-1")
    lost = DeviceIdentity.prepare(tmp_path / "id", "cam-1").enrolment(token)
    assert httpx2.post(f"{cloud.url}/v1/enrol", json=lost).status_code == 200
    thief = DeviceIdentity.prepare(tmp_path / "thief", "cam-1").enrolment(token)
    assert httpx2.post(f"{cloud.url}/v1/enrol", json=thief).status_code == 403
    assert httpx2.post(f"{cloud.url}/v1/enrol", json=lost).status_code == 200
    with CloudClient(cloud.url) as client:
        client.enrol(cloud.token("cam-1"), tmp_path / "id", "cam-1")
        client.exchange(REQUEST)
        used = cloud.signed_at()
        assert httpx2.post(f"{cloud.url}/v1/enrol", json=lost).status_code == 200
        assert cloud.signed_at() == used  # or what was signed before could be sent again
        cloud.revoke("cam-1")
        assert httpx2.post(f"{cloud.url}/v1/enrol", json=lost).status_code == 403


def test_a_revoked_device_is_out_at_once_and_comes_back_with_a_token(cloud: Cloud, tmp_path: Path) -> None:
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
        client.exchange(REQUEST)
        assert cloud.revoke("cam-1") == 1
        with pytest.raises(CloudError, match=r"401.*revoked"):
            client.exchange(REQUEST)
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "again")) as client:
        client.exchange(REQUEST)


def test_an_enrolled_device_is_safe_even_where_others_need_not_enrol(
    fresh: Callable[..., Cloud], tmp_path: Path
) -> None:
    cloud = fresh(required=False)
    enrolled(cloud, tmp_path / "id")
    with CloudClient(cloud.url) as client:
        with pytest.raises(CloudError, match="must be signed"):
            client.exchange(REQUEST)
        cloud.revoke("cam-1")
        with pytest.raises(CloudError, match="must be signed"):
            client.exchange(REQUEST)
        stranger = AdaptRequest("cam-2", MODEL, 0, REQUEST.anchors, REQUEST.queries, REQUEST.clip_of_query)
        client.exchange(stranger)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_wrong_is_put_right(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    class Wrong:
        @staticmethod
        def time_ns() -> int:
            return time.time_ns() + hours * 3_600_000_000_000

    identity = enrolled(cloud, tmp_path / "id")
    monkeypatch.setattr(identity_module, "time", Wrong)
    with CloudClient(cloud.url, identity=identity) as client:
        for _ in range(3):
            client.exchange(REQUEST)
    assert abs(cloud.signed_at() - 1e6 * time.time()) < 60e6


def test_a_clock_within_the_limit_may_be_wrong(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is put back a little while later is not locked out."""

    class Wrong:
        ahead_s = 250

        @classmethod
        def time_ns(cls) -> int:
            return time.time_ns() + cls.ahead_s * 1_000_000_000

    identity = enrolled(cloud, tmp_path / "id")
    monkeypatch.setattr(identity_module, "time", Wrong)
    with CloudClient(cloud.url, identity=identity) as client:
        client.exchange(REQUEST)
        Wrong.ahead_s = 0
        fresh_start = DeviceIdentity.load(tmp_path / "id")  # which does not know when it last signed
    assert cloud.signed_at() > 1e6 * (time.time() + 100)
    with CloudClient(cloud.url, identity=fresh_start) as client:
        client.exchange(REQUEST)


def test_only_its_cloud_sets_a_device_s_clock(cloud: Cloud, tmp_path: Path) -> None:
    identity = enrolled(cloud, tmp_path / "id")
    told = {"time_us": 5, "signature": tell_time(make_key(), "nonce", 5)}
    assert not identity.set_clock(told, "nonce")
    for wrong in ({}, {"time_us": True, "signature": "00"}, {"time_us": 5, "signature": "xx"}):
        assert not identity.set_clock(wrong, "nonce")
    right = {"time_us": 5, "signature": tell_time(KEY, "nonce", 5)}
    assert not identity.set_clock(right, "another")
    assert identity.set_clock(right, "nonce")


def test_a_device_changes_its_key(cloud: Cloud, tmp_path: Path) -> None:
    identity = enrolled(cloud, tmp_path / "id")
    old_folder, before = tmp_path / "old", identity.public_key
    shutil.copytree(tmp_path / "id", old_folder)
    with CloudClient(cloud.url, identity=identity) as client:
        client.rotate_key()
        client.exchange(REQUEST)
    assert identity.public_key != before
    assert DeviceIdentity.load(tmp_path / "id").public_key == identity.public_key
    # What lost its power before it could write still has the old key, for a day: and repeats it.
    with CloudClient(cloud.url, identity=DeviceIdentity.load(old_folder)) as client:
        client.exchange(REQUEST)
    with cloud.database.reading() as connection:
        tomorrow = int(1000 * time.time()) + 86_400_000 + 1000
        assert identities.known(connection, ["cam-1"], tomorrow)["cam-1"].keys == [identity.public_key]


def test_a_change_of_key_that_was_cut_off_is_repeated(cloud: Cloud, tmp_path: Path) -> None:
    identity = enrolled(cloud, tmp_path / "id")
    key, body = identity.next_key()
    data = json.dumps(body).encode()
    signed = identity.sign("POST", "/v1/key", data, "A" * 22)
    assert (
        httpx2.post(f"{cloud.url}/v1/key", content=data, headers={"authorization": signed}).status_code == 200
    )
    with CloudClient(cloud.url, identity=identity) as client:  # the answer was lost
        client.rotate_key()
        client.exchange(REQUEST)
    assert identity.public_key == public_key_hex(key)


def test_the_signing_key_changes_and_devices_follow(tmp_path: Path) -> None:
    database, keys = Database.temporary(), [make_key() for _ in range(3)]
    runtime = observed(tmp_path / "bundle", store=tmp_path / "store")
    stranger = observed(tmp_path / "other", public_key=public_key_hex(make_key()))
    with serving(create_app(TinyBackend(), keys[0], database=database)) as url, CloudClient(url) as client:
        assert client.adapt(runtime).sequence == 1
    for old, new in itertools.pairwise(keys):
        with database.writing() as connection:
            identities.add_endorsement(connection, endorse(old, public_key_hex(new)), 1)
    with serving(create_app(TinyBackend(), keys[2], database=database)) as url, CloudClient(url) as client:
        assert client.adapt(runtime).sequence == 2
        assert runtime.public_key == public_key_hex(keys[2])
        with pytest.raises(BadSignature):
            client.adapt(stranger)
    with (
        serving(create_app(TinyBackend(), keys[1], database=database)) as url,
        CloudClient(url) as client,
        pytest.raises(BadSignature),  # a key that was left behind is trusted no more
    ):
        client.adapt(runtime)
    again = DeviceRuntime.load(tmp_path / "bundle", "cam-1", store=tmp_path / "store")
    assert again.public_key == public_key_hex(keys[2])


def test_rates_are_limited_for_each_device_alone(fresh: Callable[..., Cloud], tmp_path: Path) -> None:
    cloud = fresh(rate_per_minute=0.1, burst=2)
    first, other = (enrolled(cloud, tmp_path / name, name) for name in ("cam-1", "cam-2"))
    for identity in (first, other):
        request = AdaptRequest(identity.device, MODEL, 0, REQUEST.anchors, REQUEST.queries, np.arange(2))
        with CloudClient(cloud.url, identity=identity) as client:
            client.exchange(request)
            client.exchange(request)
            with pytest.raises(CloudError, match=r"come back in (59\d|600) s.*too many requests"):
                client.exchange(request)


def test_rates_come_back_with_time() -> None:
    gate, now_us = RequestGuard(rate_per_minute=60, burst=3), 1_000_000_000
    spent = 0
    for _ in range(3):
        spent = gate._spent(spent, now_us)
    with pytest.raises(TooManyError) as caught:
        gate._spent(spent, now_us)
    assert caught.value.retry_after_s == 1
    assert gate._spent(spent, now_us + 1_000_000)


def test_devices_report_what_came_of_a_package(cloud: Cloud, tmp_path: Path) -> None:
    """Once of each package that they were given: no gains are moved by what was never given."""
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
        for _ in range(3):
            client.exchange(REQUEST)
        client.report(1, applied=True, gain=2.5)
        client.report(2, applied=False, reason="NotFinite")
        client.report(2, applied=True, gain=100.0)
        client.report(2**53 - 1, applied=True, gain=100.0)
        with pytest.raises(CloudError, match=r"422.*gain"):
            client.report(3, applied=True, gain=1e9)
    with cloud.database.reading() as connection:
        rows = connection.execute(select(feedback).order_by(feedback.c.id)).all()
    assert [(row.device, row.sequence, row.applied, row.gain, row.reason) for row in rows] == [
        ("cam-1", 1, True, 2.5, None),
        ("cam-1", 2, False, None, "NotFinite"),
    ]
    text = httpx2.get(f"{cloud.url}/metrics").text
    assert 'paramcast_gain_points_bucket{le="5.0"} 1.0' in text
    assert "paramcast_not_applied_total 1.0" in text
    with CloudClient(cloud.url) as client, pytest.raises(DeviceInputError, match="identity"):
        client.report(1, applied=True)


def test_roles_of_operators(cloud: Cloud, tmp_path: Path) -> None:
    api = f"{cloud.url}/v1/operator"
    enrolled(cloud, tmp_path / "id")
    tokens = {role: cloud.grant(f"{role}'s name", role) for role in identities.ROLES}
    calls = {
        "viewer": [("GET", "/devices/cam-1", None), ("GET", "/models", None)],
        "operator": [("POST", "/enrolments", {"device": "cam-9"}), ("POST", "/devices/cam-1/revoke", None)],
        "admin": [("POST", "/models/rollback", {})],
    }
    for needed, those in calls.items():
        for method, path, body in those:
            for role, headers in [*tokens.items(), ("nobody", {}), ("wrong", {"authorization": "Bearer x"})]:
                status = httpx2.request(method, api + path, json=body, headers=headers).status_code
                if role not in tokens:
                    assert status == 401
                elif identities.ROLES.index(role) < identities.ROLES.index(needed):
                    assert status == 403
                elif needed != "admin":
                    assert status == 200
    rolled = httpx2.post(f"{api}/models/rollback", json={}, headers=tokens["admin"])
    assert (rolled.status_code, "name the base model" in rolled.json()["error"]) == (403, True)
    seen = httpx2.get(f"{api}/devices/cam-1", headers=tokens["viewer"]).json()
    assert seen["keys"] == []  # revoked above
    assert httpx2.get(f"{api}/devices/none", headers=tokens["viewer"]).status_code == 404
    token = httpx2.post(f"{api}/enrolments", json={}, headers=tokens["operator"]).json()["token"]
    with CloudClient(cloud.url) as client:
        client.enrol(token, tmp_path / "more", "cam-2")
    cloud.grant("viewer's name", "viewer")  # a new token ends the old one
    assert httpx2.get(f"{api}/models", headers=tokens["viewer"]).status_code == 401


def test_what_has_not_changed_is_not_sent_again(cloud: Cloud, tmp_path: Path) -> None:
    runtime = observed(tmp_path / "bundle")
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
        first = client.refresh(runtime)
        assert first is not None
        assert client.refresh(runtime) is None
        runtime.observe(np.full((2, 8, 8, 3), 200, np.uint8), ["who is there"])
        second = client.refresh(runtime)
        assert second is not None
        assert (first.sequence, second.sequence) == (1, 2)
        assert client.refresh(runtime) is None
        assert client.adapt(runtime).sequence == 3
        assert client.refresh(runtime) is None

        async def again() -> object:
            async with AsyncCloudClient(cloud.url, identity=DeviceIdentity.load(tmp_path / "id")) as asking:
                return [await asking.refresh(runtime), await asking.refresh(runtime)]

        taken, unchanged = asyncio.run(again())  # type: ignore[misc]
        assert taken is not None
        assert unchanged is None
    assert 'paramcast_answers_total{status="304"}' in httpx2.get(f"{cloud.url}/metrics").text
