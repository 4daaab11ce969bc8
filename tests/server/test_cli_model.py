"""Models are published, served, shared and rolled back by the commands, on a running service."""

from __future__ import annotations

import re
import time
from pathlib import Path

import bundles
import httpx2
import numpy as np
import pytest
from artifacts import make_artifact
from backends import serving
from click.testing import CliRunner

from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.cli.model import command
from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest, make_key, open_package, public_key_hex
from paramcast.server import Database, ModelStore, PublishedModels, create_app
from paramcast.server.housekeeping import tidy
from paramcast.server.service import AdaptService


def run(*words: object) -> str:
    result = CliRunner().invoke(command, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hypernetworks of one base model, and one of another."""
    root = tmp_path_factory.mktemp("models")
    return [
        make_artifact(root / "first", form="codes"),
        make_artifact(root / "second", form="codes", seed=8),
        make_artifact(root / "other", form="lowrank", model="e" * 64, task="gestures"),
    ]


def made_up_request(device: str) -> AdaptRequest:
    rng = np.random.default_rng(len(device))
    anchors, queries = (rng.normal(size=(4, dim)).astype("f4") for dim in (bundles.IMAGE_UP, bundles.TEXT_UP))
    return AdaptRequest(device, bundles.MODEL, 0, anchors, queries, np.arange(4))


def test_commands_work_on_what_the_service_s_settings_name(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text(f'state = "{tmp_path}/in/cloud.db"\nstore = "{tmp_path}/shelf"\nport = 8001\n')
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("in/cloud.db", "other.db"):
        Database.open(tmp_path / name).close()
    run("publish", folders[0], "--config", config)
    assert len(list((tmp_path / "shelf").iterdir())) == 1
    monkeypatch.setenv("PARAMCAST_CONFIG", str(config))
    assert "in service" in run("list")
    assert "in service" not in run("list", "--state", tmp_path / "other.db")  # what is typed goes first
    config.write_text("stat = 1\n")
    with pytest.raises(InputError, match="setting stat"):
        run("list")


def made(service: AdaptService, key: str, request: AdaptRequest) -> np.ndarray:
    backend = service.models.pick(request.model, request.device).backend
    data = service.adapt(request.encode())
    return open_package(
        data, key, device=request.device, model=request.model, after=0, now=0, expected=backend.parameters
    ).tensors["hidden.codes"]


def test_publish_canary_rollback(folders: list[Path], tmp_path: Path) -> None:
    """What is published is taken up by a service that runs, for the same devices always."""
    first, second, other = folders
    state = tmp_path / "cloud.db"
    Database.open(state).close()
    assert "serves 100 %" in run("publish", first, "--state", state)
    with pytest.raises(InputError, match="first publish one with share 100"):
        run("publish", other, "--state", state, "--share", 5)
    key, database = make_key(), Database.open(state)
    models = PublishedModels(database, ModelStore(tmp_path / "cloud.models"))
    service = AdaptService(models, key, lifetime_s=60, quantization="fp32", database=database)
    requests = [made_up_request(f"cam-{number}") for number in range(30)]

    alone = OnnxHypernetwork.open(second)

    def served() -> list[bool]:
        """Which devices get what the second one makes."""
        tidy(service, time.time())
        codes = [made(service, public_key_hex(key), request) for request in requests]
        return [
            bool(np.allclose(code, alone.generate([request])[0]["hidden.codes"], atol=0.05))
            for code, request in zip(codes, requests, strict=True)
        ]

    assert not any(served())
    run("publish", second, "--state", state, "--share", 40)
    canary = served()
    assert 0 < sum(canary) < len(canary)
    assert served() == canary
    run("publish", second, "--state", state)
    assert all(served())
    told = run("rollback", "--state", state)
    assert "version 3 and, of the same files, 2 is withdrawn; in service: 1" in told
    assert not any(served())
    run("publish", other, "--state", state)
    tidy(service, 0)
    assert [one.number for one in models.serving] == [4, 1]
    table = run("list", "--state", state).splitlines()
    assert [re.split(r"\s{2,}", line.strip())[-1] for line in table[1:]] == [
        "in service",
        "withdrawn",
        "withdrawn",
        "in service",
    ]
    database.close()


def test_a_service_without_a_model_says_so_until_there_is_one(folders: list[Path], tmp_path: Path) -> None:
    database = Database.open(tmp_path / "cloud.db")
    models = PublishedModels(database, ModelStore(tmp_path / "cloud.models"))
    with serving(create_app(models, make_key(), database=database)) as url, httpx2.Client() as client:
        assert client.get(f"{url}/healthz").status_code == 503
        assert "publish" in client.get(f"{url}/v1/model").json()["error"]
        body = made_up_request("cam-1").encode()
        assert client.get(f"{url}/v1/bundles").json() == {"bundles": []}
        assert client.post(f"{url}/v1/adapt", content=body).status_code == 409
        for folder in (folders[0], folders[2]):
            run("publish", folder, "--state", tmp_path / "cloud.db")
        models.refresh()
        assert client.post(f"{url}/v1/adapt", content=body).status_code == 200
        assert client.get(f"{url}/healthz").status_code == 200
        for folder in (folders[0], folders[2]):
            sha256 = OnnxHypernetwork.open(folder).model
            assert client.get(f"{url}/v1/model", params={"model": sha256}).json()["model"] == sha256
            assert client.get(f"{url}/v1/bundles/{sha256}").json()["model"] == sha256  # for the page
    database.close()


def test_damaged_files_are_not_served(folders: list[Path], tmp_path: Path) -> None:
    """What runs goes on; a service that starts is told."""
    state, root = tmp_path / "cloud.db", tmp_path / "models"
    database = Database.open(state)
    run("publish", folders[0], "--state", state, "--store", root)
    models = PublishedModels(database, ModelStore(root))
    run("publish", folders[1], "--state", state, "--store", root)
    digest = ModelStore(root).add(folders[1])
    assert {path.name for path in root.iterdir()} == {digest, ModelStore(root).add(folders[0])}
    victim = next(path for path in (root / digest).rglob("*") if path.is_file())
    victim.write_bytes(b"\0" + victim.read_bytes())
    models.refresh()
    assert [one.number for one in models.serving] == [1]
    with pytest.raises(InputError, match="not those that were published"):
        PublishedModels(database, ModelStore(root))
    database.close()


def test_what_is_no_model_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        run("publish", tmp_path / "empty", "--state", tmp_path / "cloud.db")
    with pytest.raises(InputError, match="no files"):
        ModelStore(tmp_path / "store").add(tmp_path / "empty")
    with pytest.raises(InputError, match="--store"):
        run("publish", tmp_path / "empty", "--state", "postgresql://nobody@127.0.0.1:1/none")
