"""`paramcast serve` in a process of its own, and the same as an object."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import bundles
import httpx2
import numpy as np
import pytest
from artifacts import make_artifact
from backends import TinyBackend
from processes import command

from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.device import CloudClient, DeviceRuntime
from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest
from paramcast.server import Server


def start(*arguments: str, without: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("serve", *arguments, without=without),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_its_socket_is_one_that_asyncio_sends_from_at_once() -> None:
    from paramcast.server.listening import opened_listener

    with opened_listener("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_it_says_where_it_is_and_makes_its_key(tmp_path: Path) -> None:
    ready, key = tmp_path / "ready.json", tmp_path / "cloud.key"
    artifact = str(make_artifact(tmp_path / "artifact"))
    process = start(artifact, "--port", "0", "--key", str(key), "--ready-file", str(ready))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        info = json.loads(ready.read_text())
        assert info["url"] in line
        assert info["public_key"] in line
        described = httpx2.get(f"{info['url']}/v1/model").json()
        assert described["public_key"] == info["public_key"]
        assert httpx2.get(f"{info['url']}/healthz").status_code == 200
        if os.name == "posix":
            assert key.stat().st_mode & 0o777 == 0o600
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "without", "message"),
    [
        (["--port", "0"], "uvicorn", "paramcast[server]"),
        (["--port", "0"], "fastapi", "paramcast[server]"),
        (["--host", "203.0.113.1", "--port", "0"], "", "cannot listen on 203.0.113.1"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], without: str, message: str
) -> None:
    monkeypatch.setenv("PARAMCAST_BEHIND_PROXY", "true")  # else an address outside is refused before
    artifact = str(make_artifact(tmp_path / "artifact", device=False))
    process = start(artifact, "--key", str(tmp_path / "key"), *arguments, without=without)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1


OTHER = "e" * 64


def asked(device: str, clips: int, queries: int, model: str = bundles.MODEL) -> AdaptRequest:
    rng = np.random.default_rng(clips)
    return AdaptRequest(
        device,
        model,
        0,
        rng.normal(size=(clips, bundles.IMAGE_UP)).astype("f4"),
        rng.normal(size=(queries, bundles.TEXT_UP)).astype("f4"),
        np.zeros(queries, np.int64),
    )


@pytest.mark.parametrize("form", bundles.FORMS)
def test_a_graph_makes_for_each_device_of_a_batch_what_it_makes_for_it_alone(
    tmp_path: Path, form: str
) -> None:
    hypernetwork = OnnxHypernetwork.open(make_artifact(tmp_path / "artifact", form=form))
    requests = [asked("a", 3, 2), asked("b", 1, 0), asked("c", 7, 7)]
    together, wanted = hypernetwork.generate(requests), TinyBackend(form).generate(requests)
    for request, made, tensors in zip(requests, together, wanted, strict=True):
        (alone,) = hypernetwork.generate([request])
        assert made.keys() == tensors.keys()
        for name in tensors:
            assert made[name].dtype == np.float32
            np.testing.assert_allclose(made[name], tensors[name], atol=1e-5)
            np.testing.assert_allclose(made[name], alone[name], atol=1e-6)


def test_a_server_answers_a_device_in_its_process_and_over_http(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "artifact")
    with Server(artifact, key=tmp_path / "signing.key") as server:
        device = DeviceRuntime.load(artifact, "cam-1", public_key=server.public_key)
        frames = np.zeros((2, 8, 8, 3), np.uint8)
        before = device.answer(frames, ["who"])[0].probability
        device.observe(frames, ["who is there"])
        device.apply(server.adapt(device.request().encode()))
        assert device.answer(frames, ["who"])[0].probability != before
        for number in (2, 3):  # it may run again
            with server.running() as url, CloudClient(url) as client:
                client.adapt(device)
                assert device.status()["sequence"] == number
                with pytest.raises(InputError, match="runs already"), server.running():
                    pass
    with Server(artifact, key=tmp_path / "signing.key") as again:  # key and state are in files
        device.apply(again.adapt(device.request().encode()))
        assert (device.status()["sequence"], again.public_key) == (4, server.public_key)


def test_several_artifacts_at_once_each_for_its_own_devices(tmp_path: Path) -> None:
    first = make_artifact(tmp_path / "first")
    second = make_artifact(tmp_path / "second", form="codes", model=OTHER, task="gestures")
    with (
        Server(first, second, key=tmp_path / "key") as server,
        server.running() as url,
        httpx2.Client(base_url=url) as client,
    ):
        for model, task, form in ((bundles.MODEL, "qa", "full"), (OTHER, "gestures", "codes")):
            told = client.get("/v1/model", params={"model": model}).json()
            assert (told["model"], told["task"], told["form"]) == (model, task, form)
            body = asked("cam-1", 2, 1, model).encode()
            assert client.post("/v1/adapt", content=body).status_code == 200
        listed = client.get("/v1/bundles").json()["bundles"]
        assert [(one["model"], one["form"]) for one in listed] == [
            (bundles.MODEL, "full"),
            (OTHER, "codes"),
        ]
        for one in listed:
            files = client.get(f"/v1/bundles/{one['model']}").json()["files"]
            assert client.get(f"/v1/files/{files['base.safetensors']}").status_code == 200
        assert client.post("/v1/adapt", content=asked("x", 1, 1, "f" * 64).encode()).status_code == 409


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no artifact", "no server/manifest.json"),
        ("a trained model", "is a trained model, no artifact; export it"),
        ("a changed graph", "sha256 differs"),
        ("no graph", "cannot be read"),
        ("another format", "reads format 2 only"),
        ("a shape that is none", "'parameters' is missing or malformed"),
        ("other shapes", "its manifest says"),
        ("other tensors", "not those of its manifest"),
        ("other halves", "export the artifact again"),
        ("the same twice", "of the same base model"),
    ],
)
def test_what_cannot_be_served_is_told_at_the_start(tmp_path: Path, fault: str, message: str) -> None:
    artifact = make_artifact(tmp_path / "artifact")
    given = [artifact]
    path = artifact / "server" / "manifest.json"
    told = json.loads(path.read_text())
    parameter = told["parameters"][0]
    if fault in ("no artifact", "a trained model"):
        path.unlink()
        if fault == "a trained model":
            (artifact / "config.json").write_text("{}")
    elif fault == "a changed graph":
        (artifact / "server" / "hypernetwork.onnx").write_bytes(b"changed")
    elif fault == "no graph":
        (artifact / "server" / "hypernetwork.onnx").unlink()
    elif fault == "the same twice":
        given.append(make_artifact(tmp_path / "other", seed=8))
    else:
        if fault == "another format":
            told["format"] = 3
        elif fault == "a shape that is none":
            parameter["shape"] = [-1]
        elif fault == "other shapes":
            parameter["shape"] = [*parameter["shape"], 1]
        elif fault == "other tensors":
            parameter["name"] = "nobody"
        else:
            told["model"] = OTHER
        path.write_text(json.dumps(told))
    with pytest.raises(InputError, match=message):
        Server(*given, key=tmp_path / "key")
    assert not (tmp_path / "key.db").exists()


def test_folders_in_a_variable_are_separated_as_those_of_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [
        make_artifact(tmp_path / name, model=model) for name, model in (("a", bundles.MODEL), ("b", OTHER))
    ]
    monkeypatch.setenv("PARAMCAST_ARTIFACT", os.pathsep.join(map(str, folders)))
    with Server(key=tmp_path / "key") as server:
        server.adapt(asked("cam-1", 1, 1, OTHER).encode())
