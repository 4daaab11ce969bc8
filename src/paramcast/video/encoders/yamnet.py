"""YAMNet with 8-bit weights as one ONNX graph from sounds to embeddings, spectrogram included.

YAMNet is by Plakal and Ellis (2019): a MobileNet v1 trained to classify 521 sounds of AudioSet. The file of
8-bit weights was exported by others and has no license. So paramcast may neither distribute nor install it;
the environment variable `PARAMCAST_YAMNET` names the user's copy. The preprocessing before the network
consists of nodes of the graph, so that it is the same on every device.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.errors import InputError
from paramcast.video.encoders.base import cached_file, fingerprint, onnx_session
from paramcast.video.encoders.weights import YAMNET_SHA256, checked

if TYPE_CHECKING:
    import onnx

FORMAT = 1
"""Part of the name of the cached graph: raise it when a change of this file changes the graph."""
RATE = 16_000
"""Samples per second."""
WINDOW = 15_600
"""Samples of a window: 96 frames of the spectrogram, 0.975 s."""
DIM = 1024
VARIABLE = "PARAMCAST_YAMNET"
"""The environment variable that names the file of weights."""
FILE = "YamNet_w8a8.onnx.zip"
FRAME, HOP, FFT = 400, 160, 512
BANDS, LOWEST, HIGHEST, OFFSET = 64, 125.0, 7500.0, 1e-3


class YAMNet:
    """Audio encoder; see `paramcast.video.encoders.AudioEncoder`."""

    name, dim, rate, window = "yamnet-int8", DIM, RATE, WINDOW

    def __init__(self, path: Path) -> None:
        self.onnx_path: Path | None = path
        self.fingerprint = fingerprint(path)
        self._session = onnx_session(path)

    def __call__(self, sounds: np.ndarray) -> np.ndarray:
        """Encode sounds (N, 15600) float32 in [-1, 1], 16 kHz mono: (N, 1024) float32; N may be 0."""
        if not len(sounds):
            return np.empty((0, self.dim), np.float32)
        return np.asarray(self._session.run(["features"], {"sounds": sounds})[0])


def int8() -> YAMNet:
    """Make the encoder from the file that `PARAMCAST_YAMNET` names; its graph is made on first use.

    Raises:
        MissingExtraError: A package of the extra `audio` is not installed.
        InputError: The variable is not set, or it names another file.
    """

    def write(path: Path) -> None:
        path.write_bytes(build_graph(load_network()).SerializeToString(deterministic=True))

    return YAMNet(cached_file(f"yamnet-int8-v{FORMAT}.onnx", write, "audio"))


def load_network() -> onnx.ModelProto:
    """Load the network in the file of weights: spectrogram patch -> class scores.

    Raises:
        ImportError: `onnx` is not installed.
        InputError: The variable is not set, or it names another file.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    named = os.environ.get(VARIABLE)
    if not named:
        raise InputError(
            "YAMNet's weights come without a license, so paramcast does not include them: get "
            f"{FILE} yourself (docs/own_videos.md says where it is) and name the file in {VARIABLE}"
        )
    with zipfile.ZipFile(io.BytesIO(checked(Path(named), YAMNET_SHA256))) as archive:
        names = {Path(name).name: name for name in archive.namelist()}
        model = onnx.load_model(io.BytesIO(archive.read(names["model.onnx"])), load_external_data=False)
        data = archive.read(names["model.data"])
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            where = {entry.key: entry.value for entry in tensor.external_data}
            start = int(where.get("offset", 0))
            tensor.raw_data = data[start : start + int(where["length"])]
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
    return model


def build_graph(network: onnx.ModelProto) -> onnx.ModelProto:
    """Build the graph: `sounds` (N, 15600) float32 -> `features` (N, 1024), the inputs of the classifier."""
    import onnx
    from onnx import helper, numpy_helper

    (patch,) = network.graph.input
    cosines, sines = fourier()
    constants = {
        "fourier": np.concatenate([cosines, sines])[:, None],
        "mel": mel_bands(),
        "offset": np.float32(OFFSET),
        "middle": np.array([1], np.int64),
        "rows": np.array([-1, DIM], np.int64),
    }
    before: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Unsqueeze", ["sounds", "middle"], ["sound"], {}),
        ("Conv", ["sound", "fourier"], ["spectrum"], {"strides": [HOP], "kernel_shape": [FRAME]}),
        ("Split", ["spectrum"], ["real", "imaginary"], {"axis": 1, "num_outputs": 2}),
        ("Mul", ["real", "real"], ["real_square"], {}),
        ("Mul", ["imaginary", "imaginary"], ["imaginary_square"], {}),
        ("Add", ["real_square", "imaginary_square"], ["power"], {}),
        ("Sqrt", ["power"], ["magnitude"], {}),
        ("MatMul", ["mel", "magnitude"], ["bands"], {}),
        ("Add", ["bands", "offset"], ["lifted"], {}),
        ("Log", ["lifted"], ["log_mel"], {}),
        ("Transpose", ["log_mel"], ["frames"], {"perm": [0, 2, 1]}),
        ("Unsqueeze", ["frames", "middle"], ["patches"], {}),
        ("QuantizeLinear", ["patches", f"{patch.name}_scale", f"{patch.name}_zero_point"], [patch.name], {}),
    ]
    nodes = [helper.make_node(op, ins, outs, name=outs[0], **more) for op, ins, outs, more in before]
    flat = next(place for place, node in enumerate(network.graph.node) if node.op_type == "Reshape")
    nodes += network.graph.node[:flat]
    pooled = network.graph.node[flat].input[0]
    nodes.append(helper.make_node("Reshape", [pooled, "rows"], ["features"], name="features"))
    needed = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    initializers += [tensor for tensor in network.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(
        nodes,
        "yamnet",
        [helper.make_tensor_value_info("sounds", onnx.TensorProto.FLOAT, ["N", WINDOW])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", DIM])],
        initializers,
    )
    model = helper.make_model(
        graph,
        ir_version=network.ir_version,
        opset_imports=network.opset_import,
        producer_name="paramcast",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def fourier() -> tuple[np.ndarray, np.ndarray]:
    """Compute cosines and sines, each (257, 400) float32, of a frame under a periodic Hann window."""
    times = np.arange(FRAME)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * times / FRAME)
    angles = 2 * np.pi * np.arange(FFT // 2 + 1)[:, None] * times / FFT
    return (np.cos(angles) * hann).astype(np.float32), (np.sin(angles) * hann).astype(np.float32)


def mel_bands() -> np.ndarray:
    """Compute triangles of equal width on the mel scale over the frequencies: (64, 257) float32."""
    mels = _mel(np.linspace(0, RATE / 2, FFT // 2 + 1))
    edges = np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (mels - lower) / (centre - lower), (upper - mels) / (upper - centre)
    bands = np.maximum(0, np.minimum(rising, falling))
    bands[:, 0] = 0  # the constant part of the sound is ignored
    return np.asarray(bands, np.float32)


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return np.asarray(1127 * np.log1p(np.asarray(hertz) / 700))
