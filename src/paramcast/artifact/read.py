"""Reads an exported folder and refuses it if any byte has changed. Needs no torch and no ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.manifest import (
    MODEL_FILE,
    ContextSpec,
    EffectSpec,
    Fields,
    TargetSpec,
    TensorSpec,
)
from paramcast.artifact.onnx_file import Graph, read_graph
from paramcast.artifact.trees import Tree, names
from paramcast.protocol.changes import changed
from paramcast.protocol.errors import BadSignature
from paramcast.protocol.quantize import Float32
from paramcast.protocol.root import MANIFEST_SIGNATURE, check_manifest
from paramcast.protocol.signing import is_public_key

FORMAT = 2
KIND = "module"
TENSOR_FILES = ("base.safetensors", "adapter.safetensors", "uplink.safetensors", "probe.safetensors")
CALLS = ("positional", "keyword", "single")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # no separators, so no other folder
_IDENTITY = (
    "format",
    "kind",
    "adapter",
    "inputs",
    "call",
    "arguments",
    "outputs",
    "structure",
    "parameters",
    "targets",
    "context",
)
"""Keys of a device's manifest that are part of the model's sha256. Labels, task and public key are not."""


@dataclass(frozen=True, eq=False)
class DeviceArtifact:
    """A device's folder whose files have been checked against its manifest.

    Attributes:
        path: The folder.
        model: sha256 that identifies the model in requests and updates, 64 hex digits; see `model_digest`.
        adapter: The adapter's name; updates carry it as `form`.
        task: The user's name for the task of the model.
        public_key: Hex digits of the server's key, or None if no server is known yet.
        root: Hex digits of the root key that signed the manifest, or None if the manifest names no root.
        labels: Names of the classes, or None.
        inputs, arguments, call: Inputs of the module: tensors, the tree of their names, and the kind of call.
        outputs, structure: Outputs of the module: tensors, and the tree of their names.
        parameters: Tensor of an update -> its shape.
        targets: The targets that an update changes.
        context: Specification of the features that the device sends.
        files: The checked content of the graphs, by file name.
        base: Target -> its value without an update, float32, read-only.
        constants: Constants of the adapter, by name.
        mean, matrix: The uplink: (features (F,) - mean) @ matrix (F, U).
        probe: One example, by input.
        effect: Output values of the probe that show the effect of an update; None if none are compared.
        probe_tag: 4 bytes that identify the probe.
    """

    path: Path
    model: str
    adapter: str
    task: str
    public_key: str | None
    root: str | None
    labels: tuple[str, ...] | None
    inputs: tuple[TensorSpec, ...]
    arguments: Tree
    call: str
    outputs: tuple[TensorSpec, ...]
    structure: Tree
    parameters: Mapping[str, tuple[int, ...]]
    targets: tuple[TargetSpec, ...]
    context: ContextSpec
    files: Mapping[str, bytes]
    base: Mapping[str, Float32]
    constants: Mapping[str, Float32]
    mean: Float32
    matrix: Float32
    probe: Mapping[str, np.ndarray]
    effect: EffectSpec | None
    probe_tag: bytes


def half(folder: Path | str, name: str) -> Path:
    """Return the folder `device` or `server` of an artifact; `folder` may also be this inner folder."""
    path = Path(folder)
    inner = path / name
    return inner if (inner / "manifest.json").is_file() and not (path / "manifest.json").is_file() else path


def read_manifest(folder: Path, root: str | None = None) -> dict[str, Any]:
    """Read `manifest.json`, check its file names and the root's signature.

    Args:
        folder: The folder `device` or `server` of an artifact.
        root: Hex digits of the root key that must have signed the manifest; None: the key that the manifest
            names, if it names one.

    Raises:
        ArtifactError: The manifest is missing, is no JSON object with a table of files, names a file with a
            path, or is not signed by the root.
    """
    path = folder / "manifest.json"
    try:
        data = path.read_bytes()
        manifest = json.loads(data.decode())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{folder} is no exported folder: it has no manifest.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ArtifactError(f"{path} is no manifest: it has no table 'files'; export again")
    for name in manifest["files"]:
        if not _FILE_NAME.fullmatch(name):
            raise ArtifactError(f"{path}: {name!r} is no plain file name")
    _check_root(path, data, manifest.get("root"), root)
    return manifest


def _check_root(path: Path, data: bytes, named: object, root: str | None) -> None:
    """Check the root's signature of the manifest, if the manifest names a root or `root` is given."""
    if named is None and root is None:
        return
    if not is_public_key(named):
        raise ArtifactError(
            f"{path} names no root, so its origin cannot be checked; sign it: paramcast root sign"
        )
    if root is not None and named != root:
        raise ArtifactError(f"{path} is of root {str(named)[:12]}..., this device trusts {root[:12]}... only")
    file = path.with_name(MANIFEST_SIGNATURE)
    try:
        check_manifest(str(named), data, file.read_text(encoding="ascii", errors="replace").strip())
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}; copy the folder again") from error
    except BadSignature as error:
        raise ArtifactError(
            f"{file} is not the root's signature of {path.name}; copy the folder again, or sign it anew"
        ) from error


def read_checked(folder: Path, name: str, digests: Mapping[str, Any]) -> bytes:
    """Read a file's bytes and check that their sha256 is the manifest's.

    Raises:
        ArtifactError: The file cannot be read, or is not the file that was exported.
    """
    if name not in digests:
        raise ArtifactError(f"{folder / 'manifest.json'} does not list {name}; export again")
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{folder / name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digests[name]:
        raise ArtifactError(
            f"{folder / name} is not the file that was exported (its sha256 differs); copy the folder again"
        )
    return data


def read_tensors(folder: Path, name: str, data: bytes) -> dict[str, np.ndarray]:
    """Read the bytes of a safetensors file. Raises ArtifactError if they are no such file."""
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{folder / name} is no safetensors file that can be read: {error}") from error


def check_asked(path: Path, graphs: Iterable[Graph], wanted: Iterable[str]) -> None:
    """Check that every name is a required input of a graph.

    Raises:
        ArtifactError: A name is a constant or an overridable default, or no graph has it. Updates would then
            have no effect, and no runtime reports this.
    """
    graphs = list(graphs)
    asked = {name for graph in graphs for name in graph.inputs}
    fixed = {name for graph in graphs for name in graph.initializers}
    for name in wanted:
        if name in asked:
            continue
        why = "holds it as a constant or an overridable default" if name in fixed else "does not ask for it"
        raise ArtifactError(
            f"{path}: updates would have no effect: {name} must be fed, but the graph {why}; "
            "export again, and do not run a graph optimizer over the file"
        )


def read_device(folder: Path | str, root: str | None = None) -> DeviceArtifact:
    """Read and check a device's folder.

    Args:
        folder: An artifact, or its folder `device`.
        root: Hex digits of the root key that must have signed the manifest; None: the key that the manifest
            names, if it names one.

    Raises:
        ArtifactError: The manifest or a file is missing, damaged or of another format.
    """
    folder = half(folder, "device")
    manifest = read_manifest(folder, root)
    path = folder / "manifest.json"
    if manifest.get("format") == 1:
        raise ArtifactError(
            f"{folder} belongs to the video application (format 1); open it with "
            "paramcast.device.DeviceRuntime.load"
        )
    if manifest.get("format") != FORMAT or manifest.get("kind") != KIND:
        raise ArtifactError(
            f"{path}: this version of paramcast reads devices of format {FORMAT}; export again"
        )
    read = Fields(path, manifest)
    context = read.context()
    files = {name: read_checked(folder, name, manifest["files"]) for name in {MODEL_FILE, context.graph}}
    tensors = {
        name: read_tensors(folder, name, read_checked(folder, name, manifest["files"]))
        for name in TENSOR_FILES
    }
    if manifest.get("model") != model_digest(manifest):
        raise ArtifactError(
            f"{path} has been changed: 'model' is not the sha256 of what it describes; export again"
        )
    artifact = DeviceArtifact(
        path=folder,
        model=manifest["model"],
        adapter=read.text("adapter"),
        task=read.text("task"),
        public_key=read.public_key(),
        root=manifest.get("root"),
        labels=read.labels(),
        inputs=read.specs("inputs"),
        arguments=read.tree("arguments"),
        call=read.one_of("call", CALLS),
        outputs=read.specs("outputs"),
        structure=read.tree("structure"),
        parameters=read.parameters(),
        targets=read.targets(),
        context=context,
        files=files,
        base=_read_only(tensors["base.safetensors"]),
        constants=_read_only(tensors["adapter.safetensors"]),
        mean=tensors["uplink.safetensors"].get("mean", np.empty(0, np.float32)),
        matrix=tensors["uplink.safetensors"].get("matrix", np.empty((0, 0), np.float32)),
        probe=tensors["probe.safetensors"],
        effect=read.effect(),
        probe_tag=bytes.fromhex(manifest["files"]["probe.safetensors"])[:4],
    )
    _check_device(artifact)
    return artifact


def changed_targets(artifact: DeviceArtifact, values: Mapping[str, Float32]) -> dict[str, Float32]:
    """Compute every target under an update: float32, in the target's shape, read-only.

    Args:
        artifact: The device's folder.
        values: The tensors of the update.
    """
    result: dict[str, Float32] = {}
    with np.errstate(over="ignore", invalid="ignore"):  # the caller checks that all values are finite
        for target in artifact.targets:
            value = artifact.base[target.name]
            for kind in target.kinds:
                value = changed(kind, target.name, value, values, artifact.constants)
            result[target.name] = np.ascontiguousarray(value, np.float32).reshape(target.shape)
            result[target.name].flags.writeable = False
    return result


def model_digest(manifest: Mapping[str, Any]) -> str:
    """Compute the model's sha256 from all files except the probe, and the values of `_IDENTITY`."""
    told = {key: manifest.get(key) for key in _IDENTITY}
    told["files"] = {
        name: digest for name, digest in manifest["files"].items() if name != "probe.safetensors"
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _graph(path: Path, data: bytes) -> Graph:
    try:
        return read_graph(data)
    except ValueError as error:
        raise ArtifactError(f"{path} is no ONNX file: {error}") from error


def _read_only(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for values in tensors.values():
        values.flags.writeable = False
    return tensors


def _check_device(artifact: DeviceArtifact) -> None:
    """Check that files and manifest are consistent."""
    folder = artifact.path
    graph = _graph(folder / MODEL_FILE, artifact.files[MODEL_FILE])
    check_asked(folder / MODEL_FILE, [graph], (target.input for target in artifact.targets))
    data = {spec.name for spec in artifact.inputs}
    unknown = graph.inputs.keys() - data - {target.input for target in artifact.targets}
    if unknown:
        raise ArtifactError(
            f"{folder / MODEL_FILE} needs {sorted(unknown)[0]}, which the manifest does not know"
        )
    describer = _graph(folder / artifact.context.graph, artifact.files[artifact.context.graph])
    wanted = [(graph, spec.name) for spec in artifact.outputs] + [(describer, artifact.context.output)]
    for owner, name in wanted:
        if name not in owner.outputs:
            raise ArtifactError(f"{folder}: no graph gives the output {name}; export again")
    if {*names(artifact.arguments)} != data or {*names(artifact.structure)} != {
        s.name for s in artifact.outputs
    }:
        raise ArtifactError(
            f"{folder / 'manifest.json'}: arguments or structure do not name the tensors; export again"
        )
    shapes = {target.name: target.shape for target in artifact.targets}
    if shapes != {name: values.shape for name, values in artifact.base.items()}:
        raise ArtifactError(
            f"{folder / 'base.safetensors'} does not hold the manifest's targets; export again"
        )
    for name, tensors in (("base", artifact.base), ("adapter", artifact.constants)):
        for key, values in tensors.items():
            if values.dtype != np.float32 or not np.isfinite(values).all():
                raise ArtifactError(f"{folder / name}.safetensors: {key} is not finite float32; export again")
    dims = (artifact.context.dim, artifact.context.uplink)
    if artifact.matrix.shape != dims or artifact.mean.shape != dims[:1]:
        raise ArtifactError(f"{folder / 'uplink.safetensors'} lacks a mean ({dims[0]},) and a matrix {dims}")
    if artifact.probe.keys() != data:
        raise ArtifactError(
            f"{folder / 'probe.safetensors'} does not hold an example of every input; export again"
        )
