"""A device's folder that is not as it was exported is refused, whatever was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file
from worlds import World

from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.onnx_file import read_graph
from paramcast.artifact.read import model_digest, read_device

FILES = (
    "adapter.safetensors",
    "base.safetensors",
    "context.onnx",
    "model.onnx",
    "probe.safetensors",
    "uplink.safetensors",
)


@pytest.fixture
def device(conv: World, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(conv.out / "device", tmp_path / "device")
    return tmp_path / "device"


def edit(device: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, and make everything else agree with it."""
    path = device / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    for name in manifest["files"]:
        if (device / name).is_file():
            manifest["files"][name] = hashlib.sha256((device / name).read_bytes()).hexdigest()
    manifest["model"] = model_digest(manifest)
    path.write_text(json.dumps(manifest))


def test_it_reads_what_was_written(conv: World) -> None:
    artifact = read_device(conv.out)
    assert artifact.model == conv.model
    assert artifact.path == conv.out / "device"
    assert sorted(p.name for p in artifact.path.iterdir()) == sorted([*FILES, "manifest.json"])
    assert {t.name for t in artifact.targets} == set(conv.adapted.adapter.targets)
    assert artifact.parameters == {"codes": (8,)}
    assert not artifact.base["conv.weight"].flags.writeable
    assert read_device(conv.out / "device").model == conv.model


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["changed", "cut", "missing"])
def test_a_file_that_was_tampered_with_is_refused(device: Path, name: str, what: str) -> None:
    path = device / name
    data = path.read_bytes()
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if what == "changed" else data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=name):
        read_device(device)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 3),
        ("kind", "video"),
        ("model", "0" * 64),
        ("adapter", "full"),
        ("inputs", []),
        ("call", "positional"),
        ("structure", "other"),
        ("parameters", [{"name": "codes", "shape": [7], "dtype": "float32"}]),
        ("targets", None),
        ("context", {"graph": "../x.onnx", "output": "context", "dim": 4, "uplink": 4}),
        ("public_key", "no key"),
        ("labels", [1]),
        ("files", {"../model.onnx": ""}),
        ("files", None),
    ],
)
def test_a_changed_manifest_is_refused(device: Path, key: str, value: Any) -> None:
    path = device / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ArtifactError):
        read_device(device)


def test_labels_task_and_key_are_no_part_of_the_model(device: Path, conv: World) -> None:
    edit(device, lambda m: m.update(labels=["a", "b"], task="other", public_key="0" * 64))
    assert read_device(device).model == conv.model


@pytest.mark.parametrize("keep_input", [True, False], ids=["overridable default", "constant"])
def test_a_graph_that_holds_a_target_is_refused(device: Path, keep_input: bool) -> None:
    """What a graph optimizer makes of a parameter: updates would then have no effect, without an error."""
    model = onnx.load(device / "model.onnx")
    value = load_file(device / "base.safetensors")["head.weight"]
    model.graph.initializer.append(numpy_helper.from_array(value, "head.weight"))
    if not keep_input:
        (given,) = [each for each in model.graph.input if each.name == "head.weight"]
        model.graph.input.remove(given)
    onnx.save(model, device / "model.onnx")
    edit(device, lambda m: None)
    with pytest.raises(ArtifactError, match=r"no effect: head\.weight must be fed"):
        read_device(device)


def test_a_graph_that_asks_for_more_is_refused(device: Path) -> None:
    edit(device, lambda m: m["targets"].pop())
    with pytest.raises(ArtifactError, match="which the manifest does not know"):
        read_device(device)


def test_base_values_must_be_finite(device: Path) -> None:
    base = load_file(device / "base.safetensors")
    base["head.bias"] = np.full_like(base["head.bias"], np.nan)
    save_file(base, device / "base.safetensors")
    edit(device, lambda m: None)
    with pytest.raises(ArtifactError, match=r"head\.bias is not finite"):
        read_device(device)


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no exported folder: it has no manifest\.json"):
        read_device(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_device(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, b"PCPK"])
def test_bytes_that_are_no_graph(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of several messages
        read_graph(data)


def test_a_graph_is_read_as_onnx_reads_it(conv: World) -> None:
    data = (conv.out / "device" / "model.onnx").read_bytes()
    graph, model = read_graph(data), onnx.load_from_string(data)
    assert list(graph.inputs) == [value.name for value in model.graph.input]
    assert graph.initializers == {value.name for value in model.graph.initializer}
    assert list(graph.outputs) == [value.name for value in model.graph.output]
    assert graph.ir_version == model.ir_version
    assert graph.opset == model.opset_import[0].version
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        expected = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
        assert graph.inputs[value.name].shape == expected
