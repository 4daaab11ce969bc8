"""A bad day of a fleet, whole: afterwards every device that comes online runs what the owner wants."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from artifacts import make_artifact
from backends import serving
from bundles import MODEL, parameter_shapes
from click.testing import CliRunner
from sqlalchemy import select

from paramcast.cli import paramcast
from paramcast.device import AdaptationLoop, CloudClient, DeviceIdentity, DeviceRuntime, OnDrift
from paramcast.protocol import (
    BadSignature,
    Delegation,
    Notice,
    Package,
    SequenceJump,
    SigningKey,
    endorse,
    load_key,
    make_key,
    public_key_hex,
    save_key,
    seal,
    seal_notice,
)
from paramcast.protocol.limits import MAX_JUMP
from paramcast.server import Database, ModelStore, RequestGuard, create_app
from paramcast.server.db import identities, published
from paramcast.server.db.backup import back_up, restore
from paramcast.server.db.journal import Journal
from paramcast.server.db.schema import packages
from paramcast.server.housekeeping import tidy
from paramcast.server.serving import PublishedModels

FLEET = [f"cam-{number}" for number in range(6)]
ONLINE, OFFLINE = FLEET[:3], FLEET[3:]
YEAR_S = 365 * 86400


def run(*words: object) -> str:
    done = CliRunner().invoke(paramcast, [str(word) for word in words])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output.strip()


class Owner:
    """The owner's files, service and commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ahead_s = folder, 0.0
        self.state, self.key = folder / "paramcast.db", folder / "paramcast.key"
        self.root = run("root", "new", folder / "root.key")
        save_key(make_key(), self.key)
        self.delegate(1)
        self.artifacts = [make_artifact(folder / f"v{seed}", form="codes", seed=seed) for seed in (1, 2, 3)]
        for artifact in self.artifacts:
            run("root", "sign", artifact, "--root", folder / "root.key")
        Database.open(self.state).close()

    def delegate(self, generation: int) -> None:
        self.word = self.folder / f"generation-{generation}.json"
        told = ["--generation", generation, "--public-key", public_key_hex(load_key(self.key))]
        run("root", "delegate", "--root", self.folder / "root.key", *told, "--out", self.word)

    def publish(self, version: int) -> None:
        run("model", "publish", self.artifacts[version - 1], "--state", self.state)

    @contextmanager
    def serving(self) -> Iterator[SimpleNamespace]:
        """The service on its state, as `paramcast serve` runs it."""
        database = Database.open(self.state)
        gate = RequestGuard(required=True, clock=lambda: time.time() + self.ahead_s)
        app = create_app(
            PublishedModels(database, ModelStore.beside(str(self.state), None)),
            load_key(self.key),
            database=database,
            gate=gate,
            delegation=Delegation.read(self.word.read_bytes()),
        )
        with serving(app) as url:
            yield SimpleNamespace(url=url, database=database, tidy=lambda: tidy(app.service, 0))
        database.close()


class Field:
    """The devices, each with its store and its identity, which only its owner could touch by hand."""

    def __init__(self, owner: Owner, clients: ExitStack) -> None:
        self.owner, self.clients = owner, clients

    def start(self, name: str, url: str) -> AdaptationLoop:
        runtime = DeviceRuntime.load(
            self.owner.artifacts[0], name, store=self.owner.folder / name / "store", root=self.owner.root
        )
        identity = DeviceIdentity.load(self.owner.folder / name / "identity")
        client = self.clients.enter_context(CloudClient(url, identity=identity))
        return AdaptationLoop(runtime, client, OnDrift())

    def enrol(self, cloud: SimpleNamespace) -> None:
        for name in FLEET:
            with cloud.database.writing() as connection:
                now_ms = int(1000 * time.time())
                token = identities.new_enrolment(connection, name, now_ms, 3_600_000)
            with CloudClient(cloud.url) as client:
                client.enrol(token, self.owner.folder / name / "identity", name)

    def live(self, loop: AdaptationLoop) -> dict[str, Any]:
        """Some clips pass by; what the device then runs."""
        frames = np.random.default_rng(1).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
        for _ in range(4):
            loop.observe(frames, ["what colour is the ball"])
        return loop.status()


def attack(loops: dict[str, AdaptationLoop], stolen: SigningKey) -> None:
    """What somebody can do who has the signing key and stands on the wire."""
    first, second, third = (loops[name].runtime for name in ONLINE)
    (name, shape), *_ = parameter_shapes("codes").items()
    evil = Package(
        first.device_id,
        MODEL,
        2**53 - 1,
        2**50,
        "codes",
        "int4",
        {name: np.full(shape, 9, "f4")},
        issued=int(time.time()),
        generation=1,
    )
    with pytest.raises(SequenceJump):
        first.apply(seal(evil, stolen))
    far = first.status()["packages"][-1] + MAX_JUMP
    first.apply(seal(dataclasses.replace(evil, sequence=far), stolen))
    assert first.status()["sequence"] == far
    second.follow([endorse(stolen, public_key_hex(make_key()))])  # online keys endorse nobody
    assert second.public_key == public_key_hex(stolen)
    deaf = Notice(MODEL, 2**53 - 1, int(time.time()), 2**50, to_base=True, generation=1)
    assert third.heed(seal_notice(deaf, stolen))
    assert third.status()["source"] == "base"


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with ExitStack() as clients:
        yield Field(Owner(tmp_path), clients)


def test_game_day(field: Field, tmp_path: Path) -> None:
    owner = field.owner
    stolen = load_key(owner.key)
    owner.publish(1)
    with owner.serving() as cloud:
        field.enrol(cloud)
        loops = {name: field.start(name, cloud.url) for name in FLEET}
        assert {field.live(loop)["version"] for loop in loops.values()} == {1}
        back_up(cloud.database, tmp_path / "yesterday.gz")

        owner.publish(2)  # which is bad, and on every device before it is seen
        cloud.tidy()
        for loop in loops.values():
            loop.adapt()
            assert loop.status()["version"] == 2

        owner.ahead_s = YEAR_S  # half of the devices are offline from here on; the clock is wrong for an hour
        with cloud.database.writing() as connection:
            published.withdraw(connection, None, int(1000 * (time.time() + YEAR_S)))
        cloud.tidy()
        for name in ONLINE:
            assert loops[name].adapt().version == 1
            assert loops[name].status()["notice"]["withdrawn"] == [2]
            assert loops[name].status()["packages"] != []
        owner.ahead_s = 0.0
        cloud.tidy()
        assert {loops[name].adapt().version for name in ONLINE} == {1}
        assert all(loops[name].status()["notice"]["age_s"] < 60 for name in ONLINE)

        attack(loops, stolen)
        owner.publish(3)  # the good one

    # The state is lost: yesterday's comes back, with the journal. A new key, which the root delegates.
    journal = Journal(owner.state.with_suffix(".journal"))
    journal.path.rename(tmp_path / "kept.journal")
    for path in tmp_path.glob("paramcast.db*"):
        path.unlink()
    restore(owner.state, tmp_path / "yesterday.gz", Journal(tmp_path / "kept.journal"))
    run("access", "rotate-key", "--key", owner.key, "--state", owner.state)
    assert [path.name for path in tmp_path.glob("paramcast.key*")] == ["paramcast.key"]
    owner.delegate(2)

    with owner.serving() as cloud:
        for name in FLEET:
            loop = field.start(name, cloud.url)
            status = field.live(loop)
            assert (status["source"], status["version"], status["generation"]) == ("cloud", 3, 2), name
            assert status["notice"]["withdrawn"] == [2], name
            with cloud.database.reading() as connection:  # nothing to roll back to but what is good
                there = packages.c.device == name, packages.c.sequence.in_(status["packages"])
                kept = connection.execute(select(packages.c.version).where(*there)).scalars().all()
            assert kept == [3] * len(status["packages"]), name
            evil = seal(
                Package(name, MODEL, status["sequence"] + 1, 2**50, "codes", "int4", {}, 1, generation=1),
                stolen,
            )
            with pytest.raises(BadSignature):
                loop.runtime.apply(evil)
            again = field.start(name, cloud.url).status()
            assert (again["source"], again["version"]) == ("store", 3), name
