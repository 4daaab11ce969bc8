"""`import paramcast as pc`: the names that are promised, and nothing that a device does not have."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import paramcast as pc
from paramcast.errors import InputError
from paramcast.video.data.collection import Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.world import make_world

PROMISED = {
    "AdaptableModel",
    "Always",
    "Basis",
    "Device",
    "DeviceData",
    "Every",
    "Full",
    "LowRank",
    "Never",
    "NormStatistics",
    "OnDrift",
    "Residual",
    "Score",
    "Server",
    "adaptable",
    "load",
    "video",
}
"""Scripts outside this repository call these: a name that goes breaks them."""

HEAVY = ("torch", "onnxruntime", "onnx", "sklearn", "fastapi", "sqlalchemy", "av", "PIL")

USE = f"""
import sys
import paramcast as pc
{{use}}
found = sorted(set({HEAVY}) & set(sys.modules))
print(*found)
"""


def imported(use: str) -> set[str]:
    """Heavy packages that a fresh process has imported after it has used paramcast."""
    done = subprocess.run([sys.executable, "-c", USE.format(use=use)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_exactly_the_promised_names_are_exported() -> None:
    assert len(pc.__all__) == len(set(pc.__all__))
    assert set(pc.__all__) == PROMISED
    assert set(dir(pc)) >= PROMISED


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_promised_name_resolves(name: str) -> None:
    found = getattr(pc, name)
    if name == "video":
        assert found is importlib.import_module("paramcast.video")
    else:
        assert found.__name__ == name
        assert inspect.getdoc(found)
    assert getattr(pc, name) is found


def test_the_application_of_videos_has_its_two_names(tmp_path: Path) -> None:
    make_world(tmp_path, clips=1)
    (clip,) = Collection.open(tmp_path).clips
    frames = pc.video.read_frames(clip.paths[0], count=3)
    assert (frames.dtype, frames.shape[0], frames.shape[3]) == (np.uint8, 3, 3)
    np.testing.assert_array_equal(frames, read_frames(clip, 3))
    with pytest.raises(InputError, match="captions"):
        pc.video.train(tmp_path, task="captions")
    with pytest.raises(TypeError, match="rounds"):
        pc.video.train(tmp_path, task="qa", rounds=3)
    with pytest.raises(InputError, match="qa"):  # a world of one clip
        pc.video.train(tmp_path, task="qa", out=tmp_path / "model")


def test_the_import_brings_nothing_heavy() -> None:
    assert imported("dir(pc)") == set()


def test_the_device_s_names_bring_no_torch() -> None:
    assert imported("pc.Device, pc.Always, pc.Every, pc.Never, pc.OnDrift") <= {"onnxruntime"}


def test_the_server_brings_no_torch() -> None:
    assert imported("pc.Server").isdisjoint({"torch", "onnx", "sklearn", "av", "PIL"})


def test_an_unknown_name_is_told_with_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'adaptible'; public names: .*\badaptable\b"):
        pc.adaptible  # noqa: B018
    assert not hasattr(pc, "Registry")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("adaptable", "torch", "train"), ("Basis", "torch", "train"), ("Server", "fastapi", "server")],
)
def test_a_name_whose_extra_is_missing_says_which(name: str, package: str, extra: str) -> None:
    imported(f"""
from paramcast.errors import MissingExtraError
sys.modules[{package!r}] = None
try:
    pc.{name}
except MissingExtraError as error:
    assert "paramcast[{extra}]" in str(error) and "pip install" in str(error), error
else:
    raise AssertionError("{package} was hidden")
""")
