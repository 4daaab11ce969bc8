"""Clocks that are wrong for a while, on either side: afterwards everybody is served, and no replay is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx2
import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP, make_bundle

from paramcast.device import CloudClient, DeviceIdentity, DeviceRuntime
from paramcast.device import identity as identity_module
from paramcast.device import parameters as parameters_module
from paramcast.protocol import AdaptRequest, endorse, make_key, public_key_hex
from paramcast.server import Database, RequestGuard, create_app
from paramcast.server.db import identities

KEY = make_key()
YEAR_S = 365 * 86400
REQUEST = AdaptRequest(
    "cam-1", MODEL, 0, np.ones((2, IMAGE_UP), "f4"), np.ones((2, TEXT_UP), "f4"), np.arange(2)
)


class Clocks:
    """Seconds by which the cloud's and the device's clock are ahead."""

    cloud = device = 0.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(
        identity_module,
        "time",
        SimpleNamespace(time_ns=lambda: time.time_ns() + int(1e9 * clocks.device)),
    )
    monkeypatch.setattr(parameters_module, "_clock", lambda: time.time() + clocks.device)
    return clocks


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database.open(url)
    yield database
    database.close()


def app_of(database: Database, clocks: Clocks, *, required: bool = True, key: object = KEY) -> object:
    gate = RequestGuard(
        required=required, rate_per_minute=60, burst=5, clock=lambda: time.time() + clocks.cloud
    )
    return create_app(TinyBackend(), key, database=database, gate=gate)  # type: ignore[arg-type]


def enrolled(url: str, database: Database, folder: Path) -> DeviceIdentity:
    with database.writing() as connection:
        now_ms = int(1000 * time.time())
        token = identities.new_enrolment(connection, "cam-1", now_ms, 3_600_000)
    with CloudClient(url) as client:
        return client.enrol(token, folder, "cam-1")


def observed(folder: Path) -> DeviceRuntime:
    runtime = DeviceRuntime.load(
        make_bundle(folder / "bundle"), "cam-1", store=folder / "store", public_key=public_key_hex(KEY)
    )
    runtime.observe(np.zeros((2, 8, 8, 3), np.uint8), ["what colour is the ball"])
    return runtime


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_a_cloud_s_clock_that_was_wrong_shuts_nobody_out(
    clocks: Clocks, database: Database, tmp_path: Path, ahead_s: float
) -> None:
    with serving(app_of(database, clocks)) as url:
        identity = enrolled(url, database, tmp_path / "id")
        with CloudClient(url, identity=identity) as client:
            client.exchange(REQUEST)
            clocks.cloud = ahead_s
            for _ in range(3):  # the signed time is believed
                client.exchange(REQUEST)
            clocks.cloud = 0
            for _ in range(3):
                client.exchange(REQUEST)
        with CloudClient(url, identity=DeviceIdentity.load(tmp_path / "id")) as client:
            client.exchange(REQUEST)


def test_what_was_signed_in_a_wrong_hour_is_not_let_in_after_it(
    clocks: Clocks, database: Database, tmp_path: Path
) -> None:
    with serving(app_of(database, clocks)) as url:
        identity = enrolled(url, database, tmp_path / "id")
        body = REQUEST.encode()

        def sent(header: str) -> dict[str, str]:
            reply = httpx2.post(f"{url}/v1/adapt", content=body, headers={"authorization": header})
            return {"code": ""} if reply.status_code == 200 else reply.json()

        def signed() -> str:
            return identity.sign("POST", "/v1/adapt", body, "A" * 22)

        clocks.cloud = clocks.device = YEAR_S
        recorded = signed()
        assert sent(recorded)["code"] == ""
        clocks.cloud = clocks.device = 0
        identity = DeviceIdentity.load(tmp_path / "id")
        before = signed()
        assert sent(recorded)["code"] == "clock"
        now = signed()
        assert sent(now)["code"] == ""
        assert [sent(header)["code"] for header in (now, before, recorded)] == [
            "replayed",
            "replayed",
            "clock",
        ]


def test_enrolling_anew_begins_anew(clocks: Clocks, database: Database, tmp_path: Path) -> None:
    with serving(app_of(database, clocks)) as url:
        with CloudClient(url, identity=enrolled(url, database, tmp_path / "id")) as client:
            clocks.device = clocks.cloud = 250
            client.exchange(REQUEST)
            clocks.device = clocks.cloud = 0
        again = enrolled(url, database, tmp_path / "again")
        with database.reading() as connection:
            known = identities.known(connection, ["cam-1"], int(1000 * time.time()))["cam-1"]
        assert (known.signed_at, known.spent_until) == (0, 0)
        with CloudClient(url, identity=again) as client:
            client.exchange(REQUEST)


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_both_followed_a_wrong_time_server(
    clocks: Clocks, database: Database, tmp_path: Path, ahead_s: float
) -> None:
    """What the right cloud makes is taken up at once, also after a restart of the device."""
    runtime = observed(tmp_path)
    with serving(app_of(database, clocks, required=False)) as url, CloudClient(url) as client:
        assert client.adapt(runtime).sequence == 1
        clocks.cloud = clocks.device = ahead_s
        wrong = client.adapt(runtime)
        assert wrong.issued is not None
        assert abs(wrong.issued - time.time() - ahead_s) < 60
        clocks.cloud = clocks.device = 0
        right = client.adapt(observed(tmp_path))
        assert (right.sequence, right.expires < time.time() + YEAR_S / 2) == (3, True)
        again = observed(tmp_path)
        assert (again.status()["sequence"], again.status()["expired"]) == (3, False)
        assert client.adapt(again).sequence == 4


@pytest.mark.parametrize("behind_s", [3600, 120])
def test_a_clock_is_put_right_after_the_signing_key_has_changed(
    clocks: Clocks, database: Database, tmp_path: Path, behind_s: float
) -> None:
    """By the new key's word, which the old one has endorsed; 2 minutes are inside of what may be wrong."""
    keys = [KEY, make_key(), make_key()]
    with serving(app_of(database, clocks)) as url:
        identity = enrolled(url, database, tmp_path / "id")
        with CloudClient(url, identity=identity) as client:
            client.exchange(REQUEST)
    with database.writing() as connection:
        for number, (old, new) in enumerate(itertools.pairwise(keys)):
            identities.add_endorsement(connection, endorse(old, public_key_hex(new)), number)
    clocks.device = -behind_s
    with (
        serving(app_of(database, clocks, key=keys[2])) as url,
        CloudClient(url, identity=DeviceIdentity.load(tmp_path / "id")) as client,
    ):
        client.exchange(REQUEST)
    assert DeviceIdentity.load(tmp_path / "id").cloud_key == public_key_hex(keys[2])


def test_the_time_of_a_key_that_nobody_endorsed_is_not_believed(
    clocks: Clocks, database: Database, tmp_path: Path
) -> None:
    with serving(app_of(database, clocks)) as url:
        identity = enrolled(url, database, tmp_path / "id")
    clocks.device = -3600
    with (
        serving(app_of(database, clocks, key=make_key())) as url,
        CloudClient(url, identity=identity) as client,
        pytest.raises(Exception, match="clock differs"),
    ):
        client.exchange(REQUEST)
    assert identity.cloud_key == public_key_hex(KEY)
