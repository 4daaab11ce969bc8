"""What is called back, from the owner's command to the devices; keys that a root delegates, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import MODEL, make_bundle
from click.testing import CliRunner
from sqlalchemy import insert

from paramcast.cli import paramcast
from paramcast.device import (
    AdaptationLoop,
    AsyncAdaptationLoop,
    AsyncCloudClient,
    CloudClient,
    CloudError,
    DeviceIdentity,
    DeviceRuntime,
    Every,
    Never,
)
from paramcast.device import loop as loop_module
from paramcast.device.device import LocalCloud
from paramcast.errors import InputError
from paramcast.protocol import (
    BadSignature,
    MessageError,
    Notice,
    delegate,
    endorse,
    load_key,
    make_key,
    open_notice,
    public_key_hex,
    save_key,
)
from paramcast.protocol.limits import MAX_WITHDRAWN
from paramcast.protocol.notice import NOTICE_HEADER
from paramcast.server import AdaptService, Database, RequestGuard, create_app
from paramcast.server.db import identities, recalls
from paramcast.server.db.schema import models
from paramcast.server.housekeeping import tidy
from paramcast.server.launch import launched
from paramcast.server.settings import Settings

ROOT, KEY, NEXT = make_key(), make_key(), make_key()
LATER = int(time.time()) + 10**7
FRAMES = np.zeros((2, 8, 8, 3), np.uint8)


class Clock:
    """The service's."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "paramcast.db")
    yield database
    database.close()


@pytest.fixture
def made(database: Database) -> Callable[..., SimpleNamespace]:
    """Makes services on one state: `app`, `service`, `clock`."""

    def make(key: Any = KEY, **options: Any) -> SimpleNamespace:
        clock = Clock()
        gate = RequestGuard(required=options.pop("required", False), clock=clock)
        app = create_app(TinyBackend(), key, database=database, gate=gate, **options)
        return SimpleNamespace(app=app, service=app.service, clock=clock)

    return make


def recall(tmp_path: Path, *words: str, code: int = 0) -> str:
    told = ["model", "recall", *words, "--state", str(tmp_path / "paramcast.db")]
    done = CliRunner().invoke(paramcast, told)
    assert bool(done.exit_code) == bool(code), done.output + str(done.exception)
    return done.output + str(done.exception)


def observed(tmp_path: Path, **options: Any) -> DeviceRuntime:
    runtime = DeviceRuntime.load(make_bundle(tmp_path / "bundle"), "cam-1", **options)
    runtime.observe(FRAMES, ["what colour is the ball"])
    return runtime


def told_by(service: AdaptService, key: Any = KEY) -> Notice:
    return open_notice(service.notices.of(MODEL) or b"", public_key_hex(key), model=MODEL)


def test_from_the_command_to_the_device_and_back(made: Any, tmp_path: Path) -> None:
    cloud, runtime = made(), observed(tmp_path)
    with serving(cloud.app) as url, CloudClient(url) as client:
        client.adapt(runtime)
        assert runtime.status()["notice"]["age_s"] < 60
        assert client.refresh(runtime) is None  # 304, with a notice
        fresh = httpx2.get(f"{url}/v1/notice/{MODEL}")
        assert (fresh.status_code, fresh.headers["cache-control"]) == (200, "public, max-age=300")
        assert open_notice(fresh.content, public_key_hex(KEY), model=MODEL).number == 0
        assert httpx2.get(f"{url}/v1/notice/{'e' * 64}").status_code == 404
        assert httpx2.get(f"{url}/v1/notice/x").status_code == 422

        assert "are called back" in recall(tmp_path, MODEL)
        cloud.service.look_at_recalls()
        assert client.heed(runtime)
        assert runtime.status()["source"] == "base"
        assert client.adapt(runtime).sequence == 2  # what is made in the same second is not called back

        recall(tmp_path, MODEL, "--to-base")
        cloud.service.look_at_recalls()
        with pytest.raises(CloudError, match=r"409.*no updates are made now"):
            client.adapt(runtime)
        assert "base model" in runtime.status()["why"]
        recall(tmp_path, MODEL[:12], "--resume")
        cloud.service.look_at_recalls()
        assert client.heed(runtime)
        assert runtime.status()["sequence"] == 2
        answer = httpx2.post(f"{url}/v1/adapt", content=runtime.request().encode())
        assert len(answer.headers[NOTICE_HEADER]) < 400
    assert "contradict" in recall(tmp_path, "--to-base", "--resume", code=2)
    assert "name the base model" in recall(tmp_path, "f", code=2)


def test_a_loop_hears_it_by_itself(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(loop_module, "_monotonic", lambda: now)
    cloud, runtime = made(), observed(tmp_path)
    with serving(cloud.app) as url, CloudClient(url) as client:
        loop = AdaptationLoop(runtime, client, Never())
        loop.adapt()
        recall(tmp_path, MODEL)
        cloud.service.look_at_recalls()
        loop.observe(FRAMES, [])
        assert loop.status()["source"] == "cloud"
        now = loop_module.NOTICE_EVERY_S
        loop.observe(FRAMES, [])
        assert loop.status()["source"] == "base"
        now *= 2
        client.url = "http://127.0.0.1:9"
    with CloudClient(
        "http://127.0.0.1:9"
    ) as away:  # nobody is there: nothing is raised, and asked again soon
        lost = AdaptationLoop(runtime, away, Never())
        lost.observe(FRAMES, [])
        assert lost._notice_at == now + loop_module.FIRST_PAUSE_S
        with pytest.raises(CloudError, match="no notice"):
            lost.heed()


def test_the_same_for_asyncio(made: Any, tmp_path: Path) -> None:
    cloud, runtime = made(), observed(tmp_path)

    async def live(url: str) -> None:
        async with AsyncCloudClient(url) as client:
            loop = AsyncAdaptationLoop(runtime, client, Every(1))
            assert await loop.observe(FRAMES, [])
            assert await client.refresh(runtime) is not None
            recall(tmp_path, MODEL)
            cloud.service.look_at_recalls()
            assert await loop.heed()
            assert runtime.status()["source"] == "base"
            await client.adapt(runtime)

    with serving(cloud.app) as url:
        asyncio.run(live(url))


def test_a_recall_of_a_clock_that_was_ahead_is_put_right(made: Any, database: Database) -> None:
    cloud = made()
    with database.writing() as connection:
        ahead = recalls.call_back(connection, MODEL, int(1000 * (time.time() + 10**7)))
    cloud.service.look_at_recalls()
    notice = told_by(cloud.service)
    assert notice.since <= time.time() + 1
    assert notice.number == ahead.number + 1
    cloud.service.look_at_recalls()
    assert told_by(cloud.service).since == notice.since


def test_more_versions_than_fit_are_called_back_by_their_time(made: Any, database: Database) -> None:
    cloud = made()
    row = {"model": MODEL, "digest": "d" * 64, "form": "full", "task": "qa", "share": 100, "published_at": 1}
    with database.writing() as connection:
        for number in range(MAX_WITHDRAWN + 2):
            connection.execute(insert(models).values(row | {"withdrawn_at": 1000 * (number + 1)}))
    tidy(cloud.service, 0)
    notice = told_by(cloud.service)
    assert notice.withdrawn == tuple(range(3, MAX_WITHDRAWN + 3))
    assert notice.since == 2  # of version 2, the last one without room
    assert notice.number == 1000 * (MAX_WITHDRAWN + 2)


def test_a_notice_is_signed_anew_while_the_clock_moves(made: Any) -> None:
    cloud = made()
    first = told_by(cloud.service)
    for ahead_s in (3600.0, 0.0):
        cloud.clock.ahead_s = ahead_s
        assert abs(told_by(cloud.service).time - first.time - ahead_s) < 60


def word(generation: int, key: Any) -> Any:
    return delegate(ROOT, generation=generation, key=public_key_hex(key), not_after=LATER)


def test_an_enrolled_device_follows_the_root(made: Any, database: Database, tmp_path: Path) -> None:
    """Its updates, the notices and the time that it is told; the word of a former key counts for nothing."""
    first = made(delegation=word(1, KEY), required=True)
    runtime = observed(tmp_path, root=None)
    with serving(first.app) as url, CloudClient(url) as client:
        with database.writing() as connection:
            token = identities.new_enrolment(connection, "cam-1", int(1000 * time.time()), 10**6)
        identity = client.enrol(token, tmp_path / "id", "cam-1")
        assert identity.root == public_key_hex(ROOT)
        assert client.adapt(runtime).generation == 1  # a device without a root takes any
        with database.writing() as connection:
            identities.add_endorsement(connection, endorse(KEY, public_key_hex(make_key())), 1)
    second = made(NEXT, delegation=word(2, NEXT), required=True)
    second.clock.ahead_s = 10**6
    with serving(second.app) as url:
        identity = DeviceIdentity.load(tmp_path / "id")
        with CloudClient(url, identity=identity) as client:
            client.exchange(runtime.request())  # refused, told the time by the new key, and let in
        assert identity.cloud_key == public_key_hex(NEXT)
        again = DeviceIdentity.load(tmp_path / "id")
        assert (again.cloud_key, again.root) == (identity.cloud_key, identity.root)
        assert not again.follow([], word(1, KEY))
        with pytest.raises(BadSignature):
            again.follow([], delegate(KEY, generation=3, key=public_key_hex(KEY), not_after=LATER))


def test_a_service_in_the_same_process_hands_over_keys_and_notices(made: Any, tmp_path: Path) -> None:
    service = made(delegation=word(1, KEY)).service
    local = SimpleNamespace(adapt=service.adapt, keys=service.keys(), notice=service.notices.of)
    runtime = observed(tmp_path)
    runtime.root = runtime._parameters._trusted.root = public_key_hex(ROOT)
    loop = AdaptationLoop(runtime, LocalCloud(local), Never())
    assert loop.adapt().generation == 1
    assert loop.status()["notice"]["age_s"] < 60
    recall(tmp_path, MODEL)
    service.look_at_recalls()
    assert loop.heed()


def test_a_delegation_that_does_not_fit_stops_the_service(tmp_path: Path) -> None:
    save_key(KEY, tmp_path / "paramcast.key")
    file = tmp_path / "word.json"

    def start(text: str | None) -> None:
        if text is not None:
            file.write_text(text)
        with launched(Settings(key=tmp_path / "paramcast.key", delegation=file)):
            pass

    def written(value: Any) -> str:
        return str(value.to_json()).replace("'", '"')

    over = delegate(ROOT, generation=1, key=public_key_hex(KEY), not_after=1)
    with pytest.raises(InputError, match="cannot read the delegation"):
        start(None)
    with pytest.raises(InputError, match="is no delegation"):
        start("{}")
    with pytest.raises(InputError, match=r"signs with .*root delegate --public-key"):
        start(written(word(1, NEXT)))
    with pytest.raises(InputError, match="ended at 1"):
        start(written(over))
    with pytest.raises(InputError, match="damaged"):
        start(written(word(1, KEY)).replace(": 1,", ": 2,"))
    start(written(word(1, KEY)))
    with pytest.raises(MessageError):
        word(0, KEY)


def test_the_old_key_is_deleted_or_moved_away(tmp_path: Path, database: Database) -> None:
    key, kept = tmp_path / "paramcast.key", tmp_path / "safe" / "old.key"
    save_key(KEY, key)
    words = ["access", "rotate-key", "--key", str(key), "--state", str(tmp_path / "paramcast.db")]
    assert CliRunner().invoke(paramcast, [*words, "--keep-old", str(kept)]).exit_code == 0
    assert load_key(kept) == KEY
    second = load_key(key)
    assert "the old key is deleted" in CliRunner().invoke(paramcast, words).output
    assert load_key(key) not in (KEY, second)
    assert sorted(path.name for path in tmp_path.glob("*.key*")) == ["paramcast.key"]
    refused = CliRunner().invoke(paramcast, [*words, "--keep-old", str(kept)])  # never over another key
    assert "exists already" in str(refused.exception)
    assert load_key(kept) == KEY
