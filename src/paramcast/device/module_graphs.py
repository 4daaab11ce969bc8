"""Graphs of an artifact as functions on arrays, which several threads may call at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.manifest import CONTEXT_FILE, MODEL_FILE
from paramcast.artifact.onnx_file import bake
from paramcast.artifact.read import DeviceArtifact
from paramcast.device.arguments import Arrays
from paramcast.protocol.quantize import Float32


class ModuleGraphs:
    """Sessions of the module and, where there is one, of the describer beside the module."""

    def __init__(self, artifact: DeviceArtifact) -> None:
        """Open the graphs.

        Raises:
            ArtifactError: ONNX Runtime refuses a graph.
        """
        self.artifact = artifact
        self._sessions = {name: _session(artifact, name, data) for name, data in artifact.files.items()}
        self._inputs = {name: {node.name for node in s.get_inputs()} for name, s in self._sessions.items()}
        self._base = {target.input: artifact.base[target.name] for target in artifact.targets}

    @property
    def base(self) -> Arrays:
        """Inputs of the module's graph that stand for the base model."""
        return self._base

    def outputs(self, data: Arrays, targets: Arrays) -> dict[str, np.ndarray]:
        """Run the module and return its outputs by name."""
        names = [spec.name for spec in self.artifact.outputs]
        return dict(zip(names, self._run(MODEL_FILE, {**data, **targets}, names), strict=True))

    def context(self, data: Arrays) -> Float32:
        """Compute features (N, F) of N examples on the base module.

        Where the features are (N, T, F), the middle one of the T parts is returned.
        """
        context = self.artifact.context
        feed = data if context.graph == CONTEXT_FILE else {**data, **self._base}
        features: Float32 = self._run(context.graph, feed, [context.output])[0]
        return features[:, features.shape[1] // 2] if features.ndim == 3 else features

    def baked(self, feed: Arrays) -> ModuleGraphs:
        """Return graphs with the module's targets as constants; the describer's session is shared."""
        made = object.__new__(ModuleGraphs)
        made.artifact, made._base = self.artifact, self._base
        data = bake(self.artifact.files[MODEL_FILE], feed)
        made._sessions = {**self._sessions, MODEL_FILE: _session(self.artifact, MODEL_FILE, data)}
        made._inputs = {name: {node.name for node in s.get_inputs()} for name, s in made._sessions.items()}
        return made

    def _run(self, name: str, feed: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
        """Run the part of a graph that the outputs need; the graph gets only the inputs that it declares."""
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        asked = self._inputs[name]
        given = {key: value for key, value in feed.items() if key in asked}
        result: list[Any] = self._sessions[name].run(list(outputs), given, options)
        return result


def _session(artifact: DeviceArtifact, name: str, data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin while they wait for work drain the battery and take a core from other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes have no common base but Exception
        raise ArtifactError(f"{artifact.path / name} is refused by ONNX Runtime: {error}") from error
