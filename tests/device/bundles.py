"""Real, tiny bundles for ONNX Runtime, with different graphs for every form of updates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

IMAGE_DIM, TEXT_DIM, IMAGE_UP, TEXT_UP = 12, 8, 6, 4
HIDDEN, RANK, CODES = 10, 2, 5
WORDS = ["[UNK]", "[CLS]", "[SEP]"]
WORDS += ["what", "who", "how", "many", "is", "the", "a", "there", "doing", "colour"]
WORDS += ["red", "blue", "dog", "cat", "ball", "man"]
ANSWERS = ["red", "blue", "dog", "cat", "two", "yes", "no"]
FORMS = ("full", "residual", "lowrank", "codes")
MODEL = hashlib.sha256(b"tiny").hexdigest()


def parameter_shapes(form: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a form's update tensors for a Linear layer HIDDEN x (IMAGE_DIM + TEXT_DIM)."""
    width = IMAGE_DIM + TEXT_DIM
    if form == "lowrank":
        return {"hidden.a": (RANK, width), "hidden.b": (HIDDEN, RANK)}
    if form == "codes":
        return {"hidden.codes": (CODES,)}
    return {"hidden.weight": (HIDDEN, width), "hidden.bias": (HIDDEN,)}


def make_bundle(
    folder: Path, *, task: str = "qa", form: str = "full", public_key: str | None = None, model: str = MODEL
) -> Path:
    """Write a bundle like `export`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    base = base_parameters(form)
    _save(folder / "image.onnx", _image_graph(rng))
    _save(folder / "text.onnx", _text_graph(rng))
    if task == "qa":
        _save(folder / "answer.onnx", _answer_graph(rng, form))
    elif task == "choice":
        _save(folder / "choose.onnx", _choose_graph(rng, form))
    else:
        _save(folder / "embed_clips.onnx", _embed_graph(rng, form, "frames"))
        _save(folder / "embed_texts.onnx", _embed_graph(rng, form, "texts"))
    (folder / "tokenizer.json").write_text(_tokenizer())
    save_file(
        {
            "image.mean": rng.normal(size=IMAGE_DIM).astype("f4"),
            "image.matrix": rng.normal(size=(IMAGE_DIM, IMAGE_UP)).astype("f4"),
            "text.mean": rng.normal(size=TEXT_DIM).astype("f4"),
            "text.matrix": rng.normal(size=(TEXT_DIM, TEXT_UP)).astype("f4"),
        },
        folder / "uplink.safetensors",
    )
    save_file(base, folder / "base.safetensors")
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    manifest = {
        "format": 1,
        "task": task,
        "model": model,
        "form": form,
        "files": files,
        "parameters": [{"name": n, "shape": list(v.shape), "dtype": "float32"} for n, v in base.items()],
        "features": {"image": IMAGE_DIM, "text": TEXT_DIM, "frames": 8, "uplink": [IMAGE_UP, TEXT_UP]},
        "answers": ANSWERS if task != "retrieval" else None,
        "public_key": public_key,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def base_parameters(form: str) -> dict[str, np.ndarray]:
    """Return base values: the layer's parameters for `full`, zeros for the other forms."""
    rng = np.random.default_rng(1)
    return {
        name: (rng.normal(size=shape) if form == "full" else np.zeros(shape)).astype("f4")
        for name, shape in parameter_shapes(form).items()
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reseal(folder: Path, name: str) -> None:
    """Update a file's hash in the manifest after a test changed the file."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit_manifest(folder, files=files | {name: digest(folder / name)})


def _tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_padding(length=128)  # the runtime must switch this off
    text: str = tokenizer.to_str()
    return text


def _image_graph(rng: np.random.Generator) -> onnx.ModelProto:
    """Make the graph: frames uint8 (N, H, W, 3) of any size -> mean color -> features (N, IMAGE_DIM)."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "scale"], ["colour"]),
        helper.make_node("MatMul", ["colour", "w"], ["linear"]),
        helper.make_node("Tanh", ["linear"], ["features"]),
    ]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "scale": np.array(64, "f4"),
        "w": rng.normal(size=(3, IMAGE_DIM)).astype("f4"),
    }
    return _model(
        nodes, {"frames": (TensorProto.UINT8, ["n", "h", "w", 3])}, ("features", ["n", IMAGE_DIM]), constants
    )


def _text_graph(rng: np.random.Generator) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["features"], axis=-1, p=2),
    ]
    constants = {
        "table": rng.normal(size=(len(WORDS), TEXT_DIM)).astype("f4"),
        "last": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
    }
    tokens = (TensorProto.INT64, ["n", "t"])
    inputs = {"input_ids": tokens, "attention_mask": tokens}
    return _model(nodes, inputs, ("features", ["n", TEXT_DIM]), constants)


def _dynamic_layer(form: str, inputs: str, output: str) -> list[onnx.NodeProto]:
    """Make nodes for `output = inputs @ W.T + b`; W and b depend on the update tensors and on constants."""
    if form == "full":
        nodes, weight, bias = [], "hidden.weight", "hidden.bias"
    elif form == "residual":
        nodes = [
            helper.make_node("Add", ["base.w", "hidden.weight"], ["w"]),
            helper.make_node("Add", ["base.b", "hidden.bias"], ["b"]),
        ]
        weight, bias = "w", "b"
    elif form == "lowrank":
        nodes = [
            helper.make_node("MatMul", ["hidden.b", "hidden.a"], ["edit"]),
            helper.make_node("Add", ["base.w", "edit"], ["w"]),
        ]
        weight, bias = "w", "base.b"
    else:
        nodes = [
            helper.make_node("MatMul", ["hidden.codes", "basis"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["edit"]),
            helper.make_node("Add", ["base.w", "edit"], ["w"]),
        ]
        weight, bias = "w", "base.b"
    return [*nodes, helper.make_node("Gemm", [inputs, weight, bias], [output], transB=1)]


def _layer_constants(rng: np.random.Generator, form: str) -> dict[str, np.ndarray]:
    width = IMAGE_DIM + TEXT_DIM
    constants = {}
    if form in ("residual", "lowrank", "codes"):
        constants |= {"base.w": rng.normal(size=(HIDDEN, width)), "base.b": rng.normal(size=HIDDEN)}
    if form == "codes":
        constants |= {"basis": rng.normal(size=(CODES, HIDDEN * width)), "shape": np.array([HIDDEN, width])}
    return {name: v.astype(np.int64 if name == "shape" else "f4") for name, v in constants.items()}


def _fused(form: str) -> list[onnx.NodeProto]:
    """Make nodes for `active` (n, HIDDEN): the clip and each question through the dynamic layer."""
    return [
        helper.make_node("ReduceMean", ["frames", "one"], ["clip"], keepdims=0),  # (1, D)
        helper.make_node("Shape", ["questions"], ["count"], end=1),
        helper.make_node("Concat", ["count", "one"], ["tile"], axis=0),
        helper.make_node("Tile", ["clip", "tile"], ["clips"]),
        helper.make_node("Concat", ["clips", "questions"], ["both"], axis=1),
        *_dynamic_layer(form, "both", "hidden"),
        helper.make_node("Tanh", ["hidden"], ["active"]),
    ]


def _answer_graph(rng: np.random.Generator, form: str) -> onnx.ModelProto:
    nodes = [*_fused(form), helper.make_node("MatMul", ["active", "head"], ["logits"])]
    constants = _layer_constants(rng, form) | {
        "one": np.array([1], np.int64),
        "head": rng.normal(size=(HIDDEN, len(ANSWERS))).astype("f4"),
    }
    inputs = {
        "frames": (TensorProto.FLOAT, [1, "t", IMAGE_DIM]),
        "questions": (TensorProto.FLOAT, ["n", TEXT_DIM]),
    }
    return _model(nodes, inputs | _parameters(form), ("logits", ["n", len(ANSWERS)]), constants)


def _choose_graph(rng: np.random.Generator, form: str) -> onnx.ModelProto:
    """Make the graph that compares the fused clip and question with each option."""
    nodes = [
        *_fused(form),
        helper.make_node("MatMul", ["active", "head"], ["wanted"]),  # (n, TEXT_DIM)
        helper.make_node("Unsqueeze", ["wanted", "last"], ["column"]),
        helper.make_node("MatMul", ["options", "column"], ["products"]),  # (n, o, 1)
        helper.make_node("Squeeze", ["products", "last"], ["logits"]),
    ]
    constants = _layer_constants(rng, form) | {
        "one": np.array([1], np.int64),
        "last": np.array([-1], np.int64),
        "head": rng.normal(size=(HIDDEN, TEXT_DIM)).astype("f4"),
    }
    inputs = {
        "frames": (TensorProto.FLOAT, [1, "t", IMAGE_DIM]),
        "questions": (TensorProto.FLOAT, ["n", TEXT_DIM]),
        "options": (TensorProto.FLOAT, ["n", "o", TEXT_DIM]),
    }
    return _model(nodes, inputs | _parameters(form), ("logits", ["n", "o"]), constants)


def _embed_graph(rng: np.random.Generator, form: str, kind: str) -> onnx.ModelProto:
    """Make an embedding graph through the dynamic layer; the other modality's part of the input is zero."""
    start = (
        [helper.make_node("ReduceMean", ["frames", "one"], ["half"], keepdims=0)] if kind == "frames" else []
    )
    half = "half" if kind == "frames" else "texts"
    pads = [0, 0, 0, TEXT_DIM] if kind == "frames" else [0, IMAGE_DIM, 0, 0]
    nodes = [
        *start,
        helper.make_node("Pad", [half, "pads"], ["both"]),
        *_dynamic_layer(form, "both", "hidden"),
        helper.make_node("LpNormalization", ["hidden"], ["embeddings"], axis=-1, p=2),
    ]
    constants = _layer_constants(rng, form) | {"pads": np.array(pads, np.int64)}
    if kind == "frames":
        constants["one"] = np.array([1], np.int64)
    shape = ["n", "t", IMAGE_DIM] if kind == "frames" else ["n", TEXT_DIM]
    inputs = {kind: (TensorProto.FLOAT, shape)}
    return _model(nodes, inputs | _parameters(form), ("embeddings", ["n", HIDDEN]), constants)


def _parameters(form: str) -> dict[str, tuple[int, list[int]]]:
    return {name: (TensorProto.FLOAT, list(shape)) for name, shape in parameter_shapes(form).items()}


def _model(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[int | str]]],
    output: tuple[str, list[int | str]],
    constants: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _save(path: Path, model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
