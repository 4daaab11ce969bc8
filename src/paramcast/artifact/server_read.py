"""Reads the folder `server` of an artifact (manifest and graph of the hypernetwork), and runs the graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest
from paramcast.protocol.limits import FORM, MAX_DIMENSIONS, MAX_TENSOR_NAME, MODEL_ID, TENSOR_NAME
from paramcast.protocol.messages import padded
from paramcast.protocol.quantize import Float32

FORMAT = 2
GRAPH = "hypernetwork.onnx"
INPUTS = ("anchors", "anchors_mask", "queries", "queries_mask")
"""Inputs of the graph: (B, K, U) float32, (B, K) bool, (B, M, Ut) float32, (B, M) bool. All inputs but the
anchors are optional. The outputs of the graph are the update's tensors, (B, *shape) float32, by name."""


@dataclass(frozen=True, eq=False)
class ServerSide:
    """Data of a model that a server needs.

    Attributes:
        model: sha256 that identifies the model in the folder `device`, 64 hex digits.
        adapter: Name of the adapter type.
        task: The user's name for the task of the model.
        parameters: Tensor of an update -> its shape.
        uplink_dims: Columns of a request's anchors and of its queries.
        graph: `hypernetwork.onnx`.
    """

    model: str
    adapter: str
    task: str
    parameters: Mapping[str, tuple[int, ...]]
    uplink_dims: tuple[int, int]
    graph: bytes

    @classmethod
    def read(cls, artifact: Path | str) -> ServerSide:
        """Read and check the folder `server` of an artifact.

        Raises:
            InputError: If there is none, or a file is damaged or of another format.
        """
        folder = Path(artifact) / "server"
        manifest = _manifest(Path(artifact), folder)
        try:
            data = (folder / GRAPH).read_bytes()
        except OSError as error:
            raise InputError(f"{folder / GRAPH} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != manifest["files"].get(GRAPH):
            raise InputError(
                f"{folder / GRAPH} is not the file that was exported (its sha256 differs); "
                "copy the artifact again"
            )
        return cls(
            model=manifest["model"],
            adapter=manifest["adapter"],
            task=manifest["task"],
            parameters={one["name"]: tuple(one["shape"]) for one in manifest["parameters"]},
            uplink_dims=(manifest["uplink_dims"][0], manifest["uplink_dims"][1]),
            graph=data,
        )


def _manifest(artifact: Path, folder: Path) -> dict[str, Any]:
    """Read `manifest.json` and check the types of the used values."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        trained = (artifact / "config.json").exists()
        what = "a trained model, no artifact" if trained else "no artifact: it has no server/manifest.json"
        how = f"paramcast export --model {artifact if trained else 'MODEL'} --out ARTIFACT"
        raise InputError(f"{artifact} is {what}; export it: {how}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path}: this version of paramcast reads format {FORMAT} only; export it again")
    dims, parameters = manifest.get("uplink_dims"), manifest.get("parameters")
    rules = {
        "model": _matches(MODEL_ID, manifest.get("model")),
        "adapter": _matches(FORM, manifest.get("adapter")),
        "task": isinstance(manifest.get("task"), str) and 0 < len(manifest["task"]) <= 32,
        "files": isinstance(manifest.get("files"), dict),
        "uplink_dims": isinstance(dims, list) and len(dims) == 2 and all(map(_is_size, dims)),
        "parameters": isinstance(parameters, list) and bool(parameters) and all(map(_is_tensor, parameters)),
    }
    if broken := [name for name, holds in rules.items() if not holds]:
        raise InputError(f"{path}: {broken[0]!r} is missing or malformed; export the artifact again")
    if len({one["name"] for one in manifest["parameters"]}) < len(manifest["parameters"]):
        raise InputError(f"{path}: a parameter is named twice; export the artifact again")
    return manifest


def _matches(pattern: Any, value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_tensor(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("shape"), list):
        return False
    name, shape = value.get("name"), value["shape"]
    named = _matches(TENSOR_NAME, name) and len(str(name)) <= MAX_TENSOR_NAME
    return named and len(shape) <= MAX_DIMENSIONS and all(map(_is_size, shape))


class OnnxHypernetwork:
    """Generates updates with ONNX Runtime; all requests of a call are one batch.

    It is a `paramcast.server.AdaptBackend`.

    Attributes:
        model: sha256 that identifies the model in the folder `device`, 64 hex digits.
        form: The adapter type.
        task: The user's name for the task of the model.
        parameters: Tensor of an update -> its shape.
        uplink_dims: Columns of a request's anchors and of its queries.
    """

    def __init__(self, side: ServerSide) -> None:
        """Open the graph and run it once.

        Raises:
            InputError: If ONNX Runtime refuses the graph, or its inputs or outputs differ from the manifest.
        """
        self.model, self.form, self.task = side.model, side.adapter, side.task
        self.parameters, self.uplink_dims = side.parameters, side.uplink_dims
        self._session = _session(side.graph)
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]
        if not {"anchors"} <= self._inputs <= set(INPUTS) or set(self._outputs) != set(self.parameters):
            raise InputError(
                f"{GRAPH} has inputs {sorted(self._inputs)} and outputs {sorted(self._outputs)}, "
                "which are not those of its manifest; export the artifact again"
            )
        self._try()

    @classmethod
    def open(cls, artifact: Path | str) -> OnnxHypernetwork:
        """Open the hypernetwork of an artifact.

        Raises:
            InputError: If the artifact is damaged or of another format.
        """
        side = ServerSide.read(artifact)
        try:
            return cls(side)
        except InputError as error:
            raise InputError(f"{artifact}: {error}") from error

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, Float32]]:
        """Generate the tensors (float32) of one update for each request."""
        anchors, anchors_mask = padded([request.anchors for request in requests], self.uplink_dims[0])
        queries, queries_mask = padded([request.queries for request in requests], self.uplink_dims[1])
        told = dict(zip(INPUTS, (anchors, anchors_mask, queries, queries_mask), strict=True))
        feed = {name: array for name, array in told.items() if name in self._inputs}
        arrays = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        return [{name: arrays[name][place] for name in self.parameters} for place in range(len(requests))]

    def _try(self) -> None:
        """Generate updates for two synthetic requests of different lengths, and check the first one."""
        anchors = [np.full((count, self.uplink_dims[0]), 0.1, np.float32) for count in (1, 3)]
        nothing = np.empty((0, self.uplink_dims[1]), np.float32)
        clips = np.empty(0, np.int64)
        probes = [AdaptRequest("probe", self.model, 0, rows, nothing, clips) for rows in anchors]
        try:
            made = self.generate(probes)
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise InputError(f"{GRAPH} fails on a request: {error}") from error
        for name, shape in self.parameters.items():
            if made[0][name].shape != shape or made[0][name].dtype != np.float32:
                raise InputError(
                    f"{GRAPH} makes {name} as {made[0][name].dtype} {made[0][name].shape}, but its "
                    f"manifest says float32 {shape}; export the artifact again"
                )


def _session(graph: bytes) -> Any:
    """Open a session with one thread: for such small operations several threads would wait for each other."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes have no common base but Exception
        raise InputError(f"{GRAPH} is refused by ONNX Runtime: {error}") from error
