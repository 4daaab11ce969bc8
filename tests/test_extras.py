"""Every extra, alone, does its job: with the packages that it asks for and no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from extras import closure, missing, run_alone

sys.path.insert(0, str(Path(__file__).parent / "device"))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hypernetworks of one base model."""
    from artifacts import make_artifact

    root = tmp_path_factory.mktemp("artifacts")
    return [make_artifact(root / "first", form="codes"), make_artifact(root / "second", form="codes", seed=8)]


def ready(doctor: str) -> set[str]:
    """The extras that `paramcast doctor` calls ready."""
    return {line.split()[0] for line in doctor.splitlines() if line.endswith(" ready")}


DOCTOR = """
import subprocess, sys
from click.testing import CliRunner
from paramcast.cli import paramcast
print(CliRunner().invoke(paramcast, ["doctor"], catch_exceptions=False).output)
"""

BASE = """
import sys
import numpy as np
from paramcast.device import DeviceRuntime
from paramcast.errors import MissingExtraError
device = DeviceRuntime.load(sys.argv[1], "cam-1", store="store")
frames = np.zeros((2, 8, 8, 3), np.uint8)
device.observe(frames, ["who is there"])
assert device.request().encode()
assert device.answer(frames, ["who is there"])[0].text
from paramcast.cli import serve
try:
    serve.command.main(["--port", "0"], standalone_mode=False)
except MissingExtraError as error:
    assert "[server]" in str(error)
else:
    raise AssertionError
"""


def test_base(artifacts: list[Path], tmp_path: Path) -> None:
    assert ready(run_alone("", BASE + DOCTOR, artifacts[0], folder=tmp_path)) == {"(base)"}


SERVER = """
import sys
from click.testing import CliRunner
import numpy as np
from paramcast.cli import paramcast
from paramcast.device import CloudClient, DeviceRuntime
from paramcast.server import Server

first, second = sys.argv[1:]

def command(*words):
    done = CliRunner().invoke(paramcast, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output

with Server(first, key="direct.key") as server:  # in one process, without HTTP
    device = DeviceRuntime.load(first, "cam-1", public_key=server.public_key)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    device.observe(frames, ["who is there"])
    device.apply(server.adapt(device.request().encode()))

state = ("--state", "cloud.db", "--store", "shelf")
command("state", "upgrade", "--new", *state[:2])
command("model", "publish", first, *state)
command("model", "publish", second, *state, "--share", "50")
assert "in service: 1" in command("model", "rollback", *state[:2])
assert "withdrawn" in command("model", "list", *state[:2])
with Server(state="cloud.db", store="shelf", key="cloud.key") as server, server.running() as url:
    device = DeviceRuntime.load(first, "cam-2", public_key=server.public_key)
    device.observe(frames, ["who is there"])
    with CloudClient(url) as client:
        assert client.adapt(device).sequence == 1
assert not {"torch", "onnx", "sklearn", "scipy"} & set(sys.modules)
"""


def test_server(artifacts: list[Path], tmp_path: Path) -> None:
    assert not {"torch", "onnx", "scipy"} & closure("server")
    told = run_alone("server", SERVER + DOCTOR, *artifacts, folder=tmp_path)
    assert ready(told) == {"(base)", "server"}


TRAIN = """
import sys
from pathlib import Path
from paramcast.bench.evaluation import run_evaluation
from paramcast.device import DeviceRuntime
from paramcast.video.data.frames import read_frames
from paramcast.video.training.artifact import export_artifact
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train
from paramcast.video.world import make_world
world = make_world("world", clips=40)
model = train(world, Path("model"), TrainingOptions("qa", devices=4, frames=1, adaptor_steps=2))
assert callable(run_evaluation)
device = DeviceRuntime.load(export_artifact(model, "artifact"), "cam-1")
clip = world.clips[0]
print(device.answer(read_frames(clip, 1), [clip.qa[0].question]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_train(tmp_path: Path) -> None:
    assert "fastapi" not in closure("train")
    told = run_alone("train", TRAIN + DOCTOR, folder=tmp_path)
    assert ready(told) >= {"(base)", "video", "train"}


VIDEO = """
import sys
from fractions import Fraction
import av
import numpy as np
from paramcast.device import DeviceRuntime
from paramcast.device.video import read_clips
with av.open("v.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=Fraction(10))
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(20):
        picture = np.full((48, 64, 3), 10 * number, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())
device = DeviceRuntime.load(sys.argv[1], "cam-1")
(clip,) = read_clips("v.mp4", frames=4, seconds=2)
assert device.answer(clip, ["who is there"])[0].text
"""


def test_video(artifacts: list[Path], tmp_path: Path) -> None:
    told = run_alone("video", VIDEO + DOCTOR, artifacts[0], folder=tmp_path)
    assert ready(told) == {"(base)", "video"}


METHODS = """
import numpy as np
from paramcast.methods import CMDAOT, M3BATClassifier, MultiModalAdapter
rng = np.random.default_rng(0)
y = np.arange(120) % 3
X = (np.eye(3)[y] * 4 + rng.normal(size=(120, 3))).astype("f4")
domain = np.repeat([1, 2, -1], 40)
masked = np.where(domain > 0, y, -1)
m3bat = M3BATClassifier(networks=1).fit(X, masked, domain)
cmda = CMDAOT(rounds=1, local_steps=10, hidden=8).fit(X, masked, domain)
for fitted in (m3bat, cmda):
    assert fitted.predict(X[domain < 0]).shape == (40,)
assert MultiModalAdapter
"""


def test_methods(tmp_path: Path) -> None:
    assert ready(run_alone("methods", METHODS + DOCTOR, folder=tmp_path)) >= {"(base)", "methods"}


RAY = """
import sys
from pathlib import Path
Path("cloud.toml").write_text(f'key = "cloud.key"\\nartifact = ["{sys.argv[1]}"]\\n')
import anyio
import httpx2
from paramcast.cli.on_ray import application
from paramcast.server.on_ray import replica
assert application({"config": "cloud.toml"})
app = replica(Path("cloud.toml"))

async def ask():
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://here") as client:
        return (await client.get("/readyz")).json()

assert anyio.run(ask)["status"] == "ready"
"""


def test_ray(artifacts: list[Path], tmp_path: Path) -> None:
    if package := missing("ray"):
        pytest.skip(f"{package} is not installed: pip install 'paramcast[ray]'")
    told = run_alone("ray", RAY + DOCTOR, artifacts[0], folder=tmp_path)
    assert ready(told) >= {"(base)", "server", "ray"}


@pytest.mark.parametrize("extra", ["", "server", "train", "video", "methods"])
def test_what_an_extra_asks_for_is_here(extra: str) -> None:
    assert missing(extra) is None
