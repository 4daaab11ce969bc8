"""Bundles are read whole and unchanged, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import FORMS, MODEL, edit_manifest, make_bundle, parameter_shapes, reseal
from safetensors.numpy import load_file, save_file

from paramcast.device import Bundle, BundleError, DeviceRuntime
from paramcast.errors import InputError


@pytest.mark.parametrize("task", ["qa", "choice", "retrieval"])
@pytest.mark.parametrize("form", FORMS)
def test_a_bundle_is_read(tmp_path: Path, task: str, form: str) -> None:
    bundle = Bundle.load(make_bundle(tmp_path / "b", task=task, form=form))
    assert (bundle.task, bundle.form, bundle.model, bundle.public_key) == (task, form, MODEL, None)
    assert {name: values.shape for name, values in bundle.base.items()} == parameter_shapes(form)
    assert not any(values.flags.writeable for values in bundle.base.values())


@pytest.mark.parametrize(
    "name",
    ["image.onnx", "text.onnx", "tokenizer.json", "uplink.safetensors", "base.safetensors", "answer.onnx"],
)
def test_a_changed_byte_or_a_missing_file_is_named(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}.*sha256"):
        DeviceRuntime.load(bundle, "cam-1")
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        DeviceRuntime.load(bundle, "cam-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"task": "captioning"},
        {"task": ["qa"]},
        {"model": "abc"},
        {"form": None},
        {"files": None},
        {"files": {"../../etc/passwd": "0" * 64}},
        {"files": {}},
        {"parameters": None},
        {"parameters": [{"name": "hidden.weight"}]},
        {"parameters": [1]},
        {"parameters": []},
        {"answers": None},
        {"answers": []},
        {"answers": [1]},
        {"answers": ["too", "few"]},
        {"public_key": "no key"},
    ],
    ids=repr,
)
def test_a_malformed_manifest_is_refused(bundle: Path, changes: dict[str, Any]) -> None:
    edit_manifest(bundle, **changes)
    with pytest.raises(BundleError):
        DeviceRuntime.load(bundle, "cam-1")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match="manifest"):
        Bundle.load(bundle)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no exported folder"):
        Bundle.load(tmp_path)
    assert issubclass(BundleError, InputError)


@pytest.mark.parametrize("name", ["image.onnx", "answer.onnx", "tokenizer.json", "uplink.safetensors"])
def test_a_file_of_another_kind_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"something else")
    reseal(bundle, name)
    with pytest.raises(BundleError, match=name):
        DeviceRuntime.load(bundle, "cam-1")


def test_tensors_that_do_not_fit_are_refused(bundle: Path) -> None:
    uplink = load_file(bundle / "uplink.safetensors")
    save_file(uplink | {"image.mean": np.zeros(3, "f4")}, bundle / "uplink.safetensors")
    reseal(bundle, "uplink.safetensors")
    with pytest.raises(BundleError, match=r"image\.mean"):
        Bundle.load(bundle)


def test_base_values_must_be_finite(bundle: Path) -> None:
    base = load_file(bundle / "base.safetensors")
    save_file(base | {"hidden.bias": np.full_like(base["hidden.bias"], np.nan)}, bundle / "base.safetensors")
    reseal(bundle, "base.safetensors")
    with pytest.raises(BundleError, match="finite"):
        Bundle.load(bundle)


def test_a_graph_has_to_ask_for_every_parameter(tmp_path: Path) -> None:
    bundle, other = make_bundle(tmp_path / "codes", form="codes"), make_bundle(tmp_path / "full", form="full")
    (bundle / "answer.onnx").write_bytes((other / "answer.onnx").read_bytes())
    reseal(bundle, "answer.onnx")
    with pytest.raises(BundleError, match=r"no effect: hidden\.codes must be fed"):
        DeviceRuntime.load(bundle, "cam-1")


def test_more_in_the_manifest_is_allowed(bundle: Path) -> None:
    edit_manifest(bundle, notes="made on a Sunday")
    assert json.loads((bundle / "manifest.json").read_text())["notes"]
    Bundle.load(bundle)
