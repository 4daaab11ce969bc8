"""Read the folder that `paramcast export` writes, and refuse it if any byte was changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.artifact.onnx_file import read_graph
from paramcast.artifact.read import check_asked, half, read_checked, read_manifest, read_tensors
from paramcast.device.errors import BundleError
from paramcast.protocol.limits import MODEL_ID
from paramcast.protocol.quantize import Float32
from paramcast.protocol.signing import is_public_key

FORMAT = 1
_COMMON = ("image.onnx", "text.onnx", "tokenizer.json", "uplink.safetensors", "base.safetensors")
GRAPHS = {
    "qa": ("answer.onnx",),
    "choice": ("choose.onnx",),
    "retrieval": ("embed_clips.onnx", "embed_texts.onnx"),
}


@dataclass(frozen=True, eq=False)
class Uplink:
    """Projection of a trunk's features to the numbers that are sent: (feature - mean) @ matrix.

    Attributes:
        mean: (D,) float32.
        matrix: (D, U) float32.
    """

    mean: Float32
    matrix: Float32

    def __call__(self, features: Float32) -> Float32:
        """Project features (N, D) float32 to uplink rows (N, U) float32."""
        return ((features - self.mean) @ self.matrix).astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Bundle whose files have been checked against its manifest.

    Attributes:
        path: The folder.
        task: `qa`, `choice` or `retrieval`.
        model: sha256 of the base model, 64 hex digits.
        form: The generator form.
        files: Content of the files by name, exactly as it was checked.
        base: Base value of every dynamic tensor, float32, read-only.
        image, text: The two uplinks.
        answers: The answers that the model can give (qa) or was trained to choose among (choice), else empty.
        public_key: Hex of the cloud's key, or None if no cloud has served the bundle yet.
        root: Hex of the root's key that signed the manifest, or None if the manifest names no root.
        frames, sampling: Number of frames of a clip in training, and the method by which they were chosen.
    """

    path: Path
    task: str
    model: str
    form: str
    files: Mapping[str, bytes]
    base: Mapping[str, Float32]
    image: Uplink
    text: Uplink
    answers: tuple[str, ...]
    public_key: str | None
    root: str | None
    frames: int
    sampling: str

    def opened(self) -> Bundle:
        """Return this bundle without the files that are read only once.

        Only the files of the task's graphs stay; the sessions hold the trunks in memory.
        """
        return replace(self, files={name: self.files[name] for name in GRAPHS[self.task]})

    @classmethod
    def load(cls, path: Path | str, root: str | None = None) -> Bundle:
        """Read and check the bundle at `path`, or in the folder `device` of an artifact at `path`.

        Args:
            path: The folder.
            root: Hex of the root's key that must have signed the manifest; None for the key that the manifest
                names.

        Raises:
            BundleError: The manifest or a file is missing, damaged or of another format.
        """
        folder = half(path, "device")
        manifest = _read_manifest(folder, root)
        task = manifest["task"]
        names = (*_COMMON, *GRAPHS[task])
        files = {name: read_checked(folder, name, manifest["files"]) for name in names}
        uplink = read_tensors(folder, "uplink.safetensors", files["uplink.safetensors"])
        base = read_tensors(folder, "base.safetensors", files["base.safetensors"])
        parameters = _base(folder, manifest["parameters"], base)
        _check_graphs(folder, {name: files[name] for name in GRAPHS[task]}, parameters)
        return cls(
            path=folder,
            task=task,
            model=manifest["model"],
            form=manifest["form"],
            files=files,
            base=parameters,
            image=_uplink(folder, "image", uplink),
            text=_uplink(folder, "text", uplink),
            answers=tuple(manifest.get("answers") or ()),
            public_key=manifest.get("public_key"),
            root=manifest.get("root"),
            frames=manifest["features"]["frames"],
            sampling=manifest["features"].get("sampling", "uniform"),
        )


def _read_manifest(folder: Path, root: str | None) -> dict[str, Any]:
    """Read `manifest.json` and check the types of the entries that are used."""
    path = folder / "manifest.json"
    manifest = read_manifest(folder, root)
    if manifest.get("format") == 2:
        raise BundleError(f"{folder} is not of the video application; open it with paramcast.device.Device")
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{path}: this version of paramcast reads format {FORMAT} only; export it again")
    answers = manifest.get("answers")
    rules = {
        "task": manifest.get("task") in list(GRAPHS),
        "model": _matches(MODEL_ID, manifest.get("model")),
        "form": isinstance(manifest.get("form"), str),
        "files": isinstance(manifest.get("files"), dict),
        "parameters": isinstance(manifest.get("parameters"), list),
        "features": _are_features(manifest.get("features")),
        "public_key": manifest.get("public_key") is None or is_public_key(manifest["public_key"]),
        "answers": isinstance(answers, list) and len(answers) > 0 and all(isinstance(a, str) for a in answers)
        if manifest.get("task") != "retrieval"
        else not answers,
    }
    if broken := [name for name, holds in rules.items() if not holds]:
        raise BundleError(f"{path}: {broken[0]!r} is missing or malformed; export the bundle again")
    return manifest


def _are_features(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("frames"), int) and value["frames"] > 0


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _uplink(folder: Path, kind: str, tensors: Mapping[str, Float32]) -> Uplink:
    mean, matrix = tensors.get(f"{kind}.mean"), tensors.get(f"{kind}.matrix")
    if mean is None or matrix is None or matrix.ndim != 2 or mean.shape != matrix.shape[:1]:
        raise BundleError(f"{folder / 'uplink.safetensors'} lacks a fitting {kind}.mean and {kind}.matrix")
    return Uplink(mean.astype(np.float32), matrix.astype(np.float32))


def _base(folder: Path, parameters: list[Any], tensors: Mapping[str, Float32]) -> dict[str, Float32]:
    """Return the base values, read-only, in the manifest's order.

    Raises:
        BundleError: The tensors are not exactly the manifest's parameters, or are not finite float32.
    """
    try:
        shapes = {entry["name"]: tuple(entry["shape"]) for entry in parameters}
    except (TypeError, KeyError) as error:
        raise BundleError(f"{folder / 'manifest.json'}: a parameter lacks its name or shape") from error
    if shapes != {name: values.shape for name, values in tensors.items()}:
        raise BundleError(f"{folder / 'base.safetensors'} does not hold the manifest's parameters")
    for name, values in tensors.items():
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise BundleError(f"{folder / 'base.safetensors'}: {name} is not finite float32")
        values.flags.writeable = False
    return {name: tensors[name] for name in shapes}


def _check_graphs(folder: Path, graphs: Mapping[str, bytes], base: Mapping[str, Float32]) -> None:
    """Check that every parameter is an input of a graph; else updates would have no effect."""
    try:
        read = {name: read_graph(data) for name, data in graphs.items()}
    except ValueError as error:
        raise BundleError(f"{folder / next(iter(graphs))} is no ONNX file: {error}") from error
    check_asked(folder / next(iter(graphs)), read.values(), base)
