"""Whose names and keys are whose: users of a device, revoked and burnt names, many keys, two services."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from backends import TinyBackend
from bundles import MODEL
from sqlalchemy import func, insert, select, update
from test_identity import KEY, REQUEST, Cloud, enrolled, observed
from test_identity import cloud as cloud  # a fixture
from test_identity import fresh as fresh

from paramcast.device import CloudClient, CloudError, DeviceIdentity
from paramcast.protocol import AdaptRequest, make_key, public_key_hex
from paramcast.protocol.credentials import Credentials
from paramcast.protocol.limits import MAX_JUMP
from paramcast.server import Database, RequestGuard
from paramcast.server.db import identities
from paramcast.server.db.ledger import take_sequences
from paramcast.server.db.schema import device_keys, devices, feedback
from paramcast.server.request_guard import Claim, RefusedError
from paramcast.server.service import AdaptService


def test_of_a_device_s_keys_two_hold_however_often_it_changes_them(cloud: Cloud) -> None:
    now_ms = int(1000 * time.time())
    names = [public_key_hex(make_key()) for _ in range(1000)]
    with cloud.database.writing() as connection:
        identities.enrol(
            connection, identities.new_enrolment(connection, "cam-1", now_ms, 1000), "cam-1", names[0], now_ms
        )
        for number, (old, new) in enumerate(itertools.pairwise(names)):
            identities.rotate(connection, "cam-1", old, new, now_ms + number)
        assert identities.known(connection, ["cam-1"], now_ms)["cam-1"].keys == names[:-3:-1]
        assert connection.execute(select(func.count()).select_from(device_keys)).scalar() == 2
        for revoked in (names[-2], names[-1]):  # the last one stays: the name has been enrolled
            identities.revoke(connection, "cam-1", now_ms + 2000)
            identities.prune_keys(connection, now_ms + 10 * 86_400_000)
            assert revoked in connection.execute(select(device_keys.c.public_key)).scalars().all()
        assert identities.known(connection, ["cam-1"], now_ms + 10**9)["cam-1"].keys == []


def test_many_keys_of_before_are_not_tried_for_whoever_names_the_device(tmp_path: Path) -> None:
    """A state of an older version may hold thousands; a false signature costs two checks all the same."""
    database, now_ms, checked = Database.temporary(), int(1000 * time.time()), []
    mine = make_key()
    with database.writing() as connection:
        token = identities.new_enrolment(connection, "cam-1", now_ms, 1000)
        identities.enrol(connection, token, "cam-1", public_key_hex(mine), now_ms)
        rows = [
            {"public_key": public_key_hex(make_key()), "device": "cam-1", "added_at": 1, "ends_at": 2**50}
            for _ in range(2000)
        ]
        connection.execute(insert(device_keys), rows)
        table = identities.known(connection, ["cam-1"], now_ms)
    assert table["cam-1"].keys[0] == public_key_hex(mine)

    class Counted(Credentials):
        def check(self, *about: Any) -> None:
            checked.append(about)
            super().check(*about)

    header = DeviceIdentity.prepare(tmp_path, "cam-1").sign("POST", "/v1/adapt", b"", "A" * 22)
    credentials = Counted(**vars(Credentials.read(header)))
    with pytest.raises(RefusedError, match="no key of device cam-1"):
        RequestGuard().admit(Claim("cam-1", credentials, b""), table)
    assert len(checked) == 2


def test_changing_the_key_uses_up_more_of_the_rate(fresh: Callable[..., Cloud], tmp_path: Path) -> None:
    cloud = fresh(rate_per_minute=0.1, burst=60)
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
        for _ in range(3):
            client.rotate_key()
        with pytest.raises(CloudError, match="too many requests"):
            client.rotate_key()


def of(device: str, sequence: int = 0) -> AdaptRequest:
    return AdaptRequest(device, MODEL, sequence, REQUEST.anchors, REQUEST.queries, REQUEST.clip_of_query)


@pytest.mark.parametrize("required", [True, False])
def test_users_of_a_device_are_the_device_s(
    fresh: Callable[..., Cloud], tmp_path: Path, required: bool
) -> None:
    cloud = fresh(required=required, rate_per_minute=0.1, burst=4)
    with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
        for device in ("cam-1", "cam-1:anna", "cam-1:bert"):
            client.exchange(of(device))
        client.report(1, applied=True, gain=1.0, user="anna")
        with pytest.raises(CloudError, match="too many requests"):  # they use the device's rate
            client.exchange(of("cam-1:anna"))
        with pytest.raises(CloudError, match=r"401.*signed a request of"):
            client.exchange(of("cam-2:anna"))
    with cloud.database.reading() as connection:
        assert connection.execute(select(feedback.c.device)).scalars().all() == ["cam-1:anna"]
    with CloudClient(cloud.url) as stranger:
        with pytest.raises(CloudError, match="must be signed"):
            stranger.exchange(of("cam-1:anna"))
        with pytest.raises(CloudError, match=r"403.*with the device's name"):
            stranger.enrol(cloud.token(), tmp_path / "stranger", "cam-1:anna")
        assert cloud.revoke("cam-1") == 1
        with pytest.raises(CloudError, match=r"revoked|must be signed"):
            stranger.exchange(of("cam-1:bert"))


def test_a_revoked_name_stays_taken(cloud: Cloud, tmp_path: Path) -> None:
    enrolled(cloud, tmp_path / "id")
    cloud.revoke("cam-1")
    with CloudClient(cloud.url) as client:
        with pytest.raises(CloudError, match=r"403.*is or was enrolled"):
            client.enrol(cloud.token(), tmp_path / "other", "cam-1")
        client.enrol(cloud.token("cam-1"), tmp_path / "other", "cam-1")


def test_numbers_that_strangers_used_up_begin_anew_with_the_enrolment(
    fresh: Callable[..., Cloud], tmp_path: Path
) -> None:
    """No request of today can use them up; a state of former versions may hold such a number."""
    cloud = fresh(required=False)
    with CloudClient(cloud.url) as stranger:
        for name in ("cam-1", "cam-9"):
            stranger.exchange(of(name, 2**53 - 3))
            with cloud.database.writing() as connection:
                assert take_sequences(connection, [(name, 0)], 1) == [MAX_JUMP + 2]
                connection.execute(update(devices).values(sequence=2**53 - 1))
        with pytest.raises(CloudError, match=r"409.*access reset cam-1"):
            stranger.exchange(of("cam-1"))
        with CloudClient(cloud.url, identity=enrolled(cloud, tmp_path / "id")) as client:
            assert client.adapt(observed(tmp_path / "bundle", public_key=public_key_hex(KEY))).sequence == 1
    with cloud.database.writing() as connection:
        assert identities.reset_numbers(connection, "cam-9")
        assert not identities.reset_numbers(connection, "never here")
    with CloudClient(cloud.url) as stranger:
        stranger.exchange(of("cam-9"))


def test_of_two_services_one_lets_a_signed_request_in(cloud: Cloud, tmp_path: Path) -> None:
    """Each has looked at the state before the other wrote: what is written decides, not what was read."""
    identity = enrolled(cloud, tmp_path / "id")
    body = REQUEST.encode()
    header = identity.sign("POST", "/v1/adapt", body, "A" * 22)
    services = [
        AdaptService(
            TinyBackend(), KEY, lifetime_s=60, database=cloud.database, gate=RequestGuard(required=True)
        )
        for _ in range(2)
    ]
    asked = [service.read(body, Credentials.read(header)) for service in services]
    looked = [service._admit([one])[0] for service, one in zip(services, asked, strict=True)]
    with cloud.database.writing() as connection:
        latest = services[0].gate.latest_us()
        assert [identities.spend(connection, one, latest) for one in looked] == [set(), {"cam-1"}]
        assert identities.spend(connection, looked[0], 0) == set()  # a time that cannot be right gives way
    (outcome,) = services[1].answer([asked[1]])
    assert isinstance(outcome, RefusedError)
    assert outcome.code == "replayed"


def test_of_two_enrolments_of_a_new_name_at_once_one_key_holds(new_url: Callable[[], str]) -> None:
    """Both may succeed, one after the other: the later one has ended the key of the earlier one."""
    database = Database.open(new_url())

    def enrolled(name: str, token: str, together: threading.Barrier) -> None:
        together.wait(30)
        with database.writing(name) as connection:
            key = public_key_hex(make_key())
            identities.enrol(connection, token, name, key, int(1000 * time.time()))

    with ThreadPoolExecutor(4) as pool:
        for name in (f"cam-{number}" for number in range(10)):
            with database.writing() as connection:
                tokens = [identities.new_enrolment(connection, name, 1, 10**15) for _ in range(4)]
            together = threading.Barrier(4)
            for done in [pool.submit(enrolled, name, token, together) for token in tokens]:
                done.result(60)
            with database.reading() as connection:
                later = int(1000 * time.time()) + 1
                assert len(identities.known(connection, [name], later)[name].keys) == 1
    database.close()
