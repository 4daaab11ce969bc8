"""The library in a real browser: what a server calls back, and an offline root."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import pytest
from library import Served, adapt, assert_same, packed_library, predict, route, run, start
from playwright.sync_api import Page
from worlds import add_server, arrays, make_world

from paramcast.protocol import delegate, endorse, load_key, make_key, public_key_hex


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture
def state(folder: Path) -> Path:
    return folder / "cloud.db"


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    world = make_world(folder / "artifact", "conv")
    add_server(world)
    with processes.service(folder) as running:
        # `route` serves the folder of "two" too
        yield Served(running.url, {"conv": world, "two": world}, packed_library(folder / "library"))


def test_what_is_called_back_is_left(served: Served, state: Path, new_page: Callable[..., Page]) -> None:
    """The owner's word over HTTP, kept over a reload; and what is too old, where that is not to run."""
    world, page = served.worlds["conv"], route(served, new_page())
    options = {"server": served.url, "model": world.model, "id": "heeds", "store": True}
    assert start(page, **options) is None
    run(page, "await device.observe(a);", arrays(world.inputs))
    adapt(page, world)
    notice = run(page, "return device.status.notice;")
    assert (notice["age"] < 60, notice["toBase"], notice["withdrawn"]) == (True, False, [])
    processes.run("model", "recall", world.model, "--to-base", "--state", state)
    heard = (
        "for (let n = 0; n < 200 && !(await device.heed()); n++) await new Promise((f) => setTimeout(f, 50));"
    )
    run(page, heard)
    for _ in range(2):
        status = run(page, "return device.status;")
        assert (status["source"], status["why"]) == ("base", "the server has devices run the base model")
        assert_same(predict(page, arrays(world.inputs)), world.truth(world.inputs))
        page.reload()
        page.wait_for_function("globalThis.ready")
        assert start(page, **options) is None
    run(page, "await device.observe(a);", arrays(world.inputs))
    refused = run(page, "return (await failing(() => device.adapt()))[1];")
    assert "no updates are made now" in refused
    processes.run("model", "recall", world.model, "--resume", "--state", state)
    run(page, heard)
    assert run(page, "return device.status.source;") == "store"
    processes.run("model", "recall", world.model, "--state", state)
    run(page, heard)
    status = run(page, "return device.status;")
    assert (status["source"], status["packages"]) == ("base", [])
    assert "was called back" in status["why"]


def test_a_root_is_trusted_and_nobody_else(
    served: Served, new_page: Callable[..., Page], tmp_path: Path
) -> None:
    """Its signature of the manifest, and the keys that it delegates; those of others are not followed."""
    world = served.worlds["conv"]
    shared = route(served, new_page())
    artifact = shutil.copytree(world.out, tmp_path / "artifact")
    root = processes.run("root", "new", tmp_path / "root.key").strip()
    processes.run("root", "sign", artifact, "--root", tmp_path / "root.key")
    files = {path.name: path.read_bytes() for path in (artifact / "device").iterdir()}
    options = {"id": "rooted", "root": root, "server": served.url}
    assert start(shared, files=files, **options) is None
    run(shared, "await device.observe(a);", arrays(world.inputs))
    assert run(shared, "return [device.publicKey, device.status.generation];") == [None, 0]
    refused = run(
        shared, "return (await failing(() => device.adapt()))[1];"
    )  # the server shows no delegation
    assert refused.startswith("NoPublicKey")
    key, other = make_key(), make_key()
    word = delegate(load_key(tmp_path / "root.key"), generation=2, key=public_key_hex(key), not_after=2**40)
    keys = {"endorsements": [vars(endorse(key, public_key_hex(other)))], "delegation": word.to_json()}
    run(shared, "await device.follow(a);", keys)
    assert run(shared, "return [device.publicKey, device.status.generation];") == [public_key_hex(key), 2]
    forged = delegate(other, generation=3, key=public_key_hex(other), not_after=2**40).to_json()
    refused = run(
        shared,
        "return (await failing(() => device.follow(a)))[1];",
        {"endorsements": [], "delegation": forged},
    )
    assert refused.startswith("BadSignature")
    changed = files | {"manifest.json": files["manifest.json"] + b" "}
    plain = {name: data for name, data in files.items() if name != "manifest.json"}
    plain["manifest.json"] = (world.out / "device" / "manifest.json").read_bytes()
    for given, why in ((changed, "not signed"), (plain, "names no root")):
        assert why in str(start(shared, files=given, **options))
    assert "this device trusts" in str(start(shared, files=files, id="rooted", root="0" * 64))
