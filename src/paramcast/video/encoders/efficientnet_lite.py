"""EfficientNet-Lite0 as an ONNX graph, preprocessing included, made once from the weights of its package.

The graph is written node by node and not exported: the network is a chain of convolutions, and the current
exporter of torch gives wrong numbers for it. So torch is needed only to open the file of weights.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.video.encoders.base import OnnxImageEncoder, cached_file
from paramcast.video.encoders.weights import EFFICIENTNET_LITE0

if TYPE_CHECKING:
    import onnx

FORMAT = 2
"""Part of the names of the cached graphs: raise it when a change of this file changes the graph."""
SIDE = 224
DIM = 1280
STRIDE_2_BLOCKS = (1, 3, 5, 11)
# The few channels of the first layers have very different ranges: with these layers in 8 bits, the error of
# the worst frames is twice as large.
KEPT_IN_FLOAT = (
    "_conv_stem",
    "_conv_stem.relu6",
    "_blocks.0._depthwise_conv",
    "_blocks.0._depthwise_conv.relu6",
    "_blocks.0._project_conv",
)
BATCH_NORM_EPSILON = 1e-3
IR_VERSION, OPSET = 9, 18


def fp32() -> OnnxImageEncoder:
    """Make the encoder in float32, the reference. Raises MissingExtraError."""
    return OnnxImageEncoder("efficientnet-lite0", graph_path(), notice=EFFICIENTNET_LITE0.notice)


def int8() -> OnnxImageEncoder:
    """Make the encoder with 8-bit convolutions, a quarter of the bytes. Raises MissingExtraError."""
    return OnnxImageEncoder("efficientnet-lite0-int8", int8_graph_path(), notice=EFFICIENTNET_LITE0.notice)


def graph_path() -> Path:
    """Return the path of the float32 graph, made on first use. Raises MissingExtraError."""

    def write(path: Path) -> None:
        path.write_bytes(build_graph(load_weights()).SerializeToString(deterministic=True))

    return cached_file(f"efficientnet-lite0-fp32-v{FORMAT}.onnx", write)


def int8_graph_path() -> Path:
    """Return the path of the graph with 8-bit convolutions, made on first use. Raises MissingExtraError."""

    def write(path: Path) -> None:
        from paramcast.video.encoders.quantize import quantize_graph

        quantize_graph(graph_path(), path, KEPT_IN_FLOAT)

    return cached_file(f"efficientnet-lite0-int8-v{FORMAT}.onnx", write)


def load_weights() -> dict[str, np.ndarray]:
    """Load the arrays of the package's state dict by name. Raises ImportError or WrongWeightsError."""
    import torch

    state = torch.load(io.BytesIO(EFFICIENTNET_LITE0.read()), weights_only=True)
    return {name: value.numpy() for name, value in state.items()}


def build_graph(weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Build the whole graph: `frames` (N, H, W, 3) uint8 -> `features` (N, 1280) float32."""
    import onnx
    from onnx import helper

    builder = _Builder(weights)
    builder.features(builder.preprocess("frames"))
    graph = helper.make_graph(
        builder.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("frames", onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", DIM])],
        builder.initializers,
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opset, producer_name="paramcast")
    onnx.checker.check_model(model, full_check=True)
    return model


class _Builder:
    """Builder that appends nodes to a graph; its methods take and return names of tensors."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def preprocess(self, frames: str) -> str:
        """Convert frames (N, H, W, 3) uint8 to (N, 3, 224, 224) float32 in [-1, 1]."""
        planes = self._node("Transpose", [frames], "planes", perm=[0, 3, 1, 2])
        pixels = self._node("Cast", [planes], "pixels", to=1)
        # Give the sizes of all four axes: with two sizes, ONNX Runtime (1.32) makes a wrong graph when it
        # moves the Transpose. Without `exclude_outside`, its antialiasing differs from Pillow's and torch's
        # at the border.
        shape = self._node("Shape", [planes], "shape", start=0, end=2)
        side = self._constant("side", np.array([SIDE, SIDE], np.int64))
        sizes = self._node("Concat", [shape, side], "sizes", axis=0)
        how = {"mode": "linear", "antialias": 1, "exclude_outside": 1}
        small = self._node("Resize", [pixels, "", "", sizes], "resized", **how)
        centred = self._node("Sub", [small, self._constant("mean", np.float32(127.0))], "centred")
        return self._node("Div", [centred, self._constant("scale", np.float32(128.0))], "scaled")

    def features(self, image: str) -> None:
        """Append the network and its global average pool, with the output `features`."""
        tensor = self._conv(image, "_conv_stem", "_bn0", stride=2)
        last = max(
            int(match[1]) for match in map(re.compile(r"_blocks\.(\d+)\.").match, self.weights) if match
        )
        for block in range(last + 1):
            tensor = self._block(tensor, f"_blocks.{block}.", 2 if block in STRIDE_2_BLOCKS else 1)
        pooled = self._node("GlobalAveragePool", [self._conv(tensor, "_conv_head", "_bn1")], "pooled")
        self._node("Flatten", [pooled], "features")

    def _block(self, inputs: str, prefix: str, stride: int) -> str:
        """Append an inverted bottleneck: expand (not in the first), depthwise, project, add the input."""
        tensor = inputs
        if f"{prefix}_expand_conv.weight" in self.weights:
            tensor = self._conv(tensor, f"{prefix}_expand_conv", f"{prefix}_bn0")
        channels = len(self.weights[f"{prefix}_depthwise_conv.weight"])
        tensor = self._conv(tensor, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride, channels)
        tensor = self._conv(tensor, f"{prefix}_project_conv", f"{prefix}_bn2", active=False)
        first = self.weights.get(f"{prefix}_expand_conv.weight")
        skips = first is not None and first.shape[1] == len(self.weights[f"{prefix}_project_conv.weight"])
        return self._node("Add", [tensor, inputs], f"{prefix}sum") if skips and stride == 1 else tensor

    def _conv(
        self, inputs: str, conv: str, norm: str, stride: int = 1, groups: int = 1, active: bool = True
    ) -> str:
        """Append a convolution with its batch norm folded in (in float64), then ReLU6 if `active`.

        SAME_UPPER is TensorFlow's padding: at stride 2, the odd pixel is added at the right and the bottom.
        """
        gamma, beta, mean, variance = (
            self.weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        weight = self.weights[f"{conv}.weight"] * scale[:, None, None, None]
        tensor = self._node(
            "Conv",
            [
                inputs,
                self._constant(f"{conv}.weight", weight.astype(np.float32)),
                self._constant(f"{conv}.bias", (beta - mean * scale).astype(np.float32)),
            ],
            conv,
            kernel_shape=weight.shape[2:],
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",
        )
        if not active:
            return tensor
        bounds = [self._constant("zero", np.float32(0.0)), self._constant("six", np.float32(6.0))]
        return self._node("Clip", [tensor, *bounds], f"{conv}.relu6")

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        if all(tensor.name != name for tensor in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name
