"""`import paramcast as pc`: the names that are promised, and nothing that a device does not have."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import paramcast as pc

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


def test_the_module_of_videos_trains_and_reads() -> None:
    assert callable(pc.video.train)
    assert callable(pc.video.read_frames)


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


def test_a_name_whose_extra_is_missing_says_which() -> None:
    blocked = """
sys.modules["torch"] = None
try:
    pc.adaptable
except pc.errors.MissingExtraError as error:
    assert "paramcast[train]" in str(error), error
else:
    raise AssertionError("torch was blocked")
del sys.modules["torch"]
"""
    assert "torch" not in imported(blocked)
