"""Writes the bundle that a device runs: ONNX graphs with update tensors as inputs, and further files."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from paramcast.adapters import AdaptedModule
from paramcast.errors import InputError
from paramcast.files import write_json
from paramcast.video.encoders import image_encoder, text_encoder
from paramcast.video.encoders.weights import notices_of
from paramcast.video.training.model import TrainedModel, uplink_arrays

FORMAT = 1
"""Version of the bundle."""

OPSET = 18

NOTICES = "NOTICES"
"""The file with the authors and licenses of the encoders."""


def export_bundle(model: TrainedModel, out: Path | str, public_key: str | None = None) -> Path:
    """Write a bundle folder atomically; an older bundle in the same folder is replaced.

    Args:
        model: A trained model.
        out: The folder.
        public_key: Hex of the Ed25519 public key with which the device checks updates. None: the device
            trusts the first server that it meets.

    Raises:
        InputError: The encoders cannot run on a device, the hypernetwork needs more than one anchor frame of
            a clip, or `out` exists and is not a bundle.
    """
    out = Path(out)
    if model.config.evidence == "clip" or model.config.anchors != 1:
        raise InputError(
            "devices send one anchor frame per clip, but the adaptor of this model, trained for a "
            "comparison, needs more"
        )
    if out.exists() and any(out.iterdir()) and not (out / "manifest.json").exists():
        raise InputError(f"{out} exists and is not a bundle; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        _write_trunks(model, folder)
        save_file(uplink_arrays(model.image_uplink, model.text_uplink), folder / "uplink.safetensors")
        adapted = model.adaptor.adapted
        base = {
            name: np.ascontiguousarray(value.numpy()) for name, value in adapted.adapter.base_values().items()
        }
        save_file(base, folder / "base.safetensors")
        write_graphs(model, folder)
        files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
        write_json(
            folder / "manifest.json",
            {
                "format": FORMAT,
                "task": model.config.task,
                "model": model.sha256(),
                "form": model.config.form,
                "files": files,
                "parameters": [
                    {"name": name, "shape": list(shape), "dtype": "float32"}
                    for name, shape in adapted.adapter.shapes.items()
                ],
                "features": {
                    "image": model.config.image_dim,
                    "text": model.config.text_dim,
                    "frames": model.config.frames,
                    "sampling": model.config.sampling,
                    "uplink_image": model.image_uplink.matrix.shape[1],
                    "uplink_text": model.text_uplink.matrix.shape[1],
                },
                "answers": list(model.config.answers) or None,
                "public_key": public_key,
            },
        )
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return out


def _write_trunks(model: TrainedModel, folder: Path) -> None:
    image, text = image_encoder(model.config.image_encoder), text_encoder(model.config.text_encoder)
    for encoder, path in ((image, image.onnx_path), (text, text.onnx_path)):
        if path is None:
            raise InputError(f"encoder {encoder.name} has no ONNX graph, so no device can run it")
    shutil.copyfile(str(image.onnx_path), folder / "image.onnx")
    shutil.copyfile(str(text.onnx_path), folder / "text.onnx")
    shutil.copyfile(str(text.tokenizer_path), folder / "tokenizer.json")
    trunks = {"image.onnx": image, "text.onnx and tokenizer.json": text}
    (folder / NOTICES).write_text(notices_of(trunks), encoding="utf-8")


def write_graphs(model: TrainedModel, folder: Path, *, adaptable: bool = True) -> None:
    """Write the task's graphs.

    Args:
        model: A trained model.
        folder: The folder for the graphs.
        adaptable: Whether update tensors are inputs; if not, the graphs are the base model alone.
    """
    frames = torch.zeros(2, model.config.frames, model.config.image_dim)
    texts = torch.zeros(2, model.config.text_dim)
    adapted = model.adaptor.adapted
    base = adapted.adapter.base_values() if adaptable else {}
    if model.config.task == "qa":
        axes = {"frames": {1: "T"}, "questions": {0: "N"}}
        data = {"frames": frames[:1], "questions": texts}
        _write_graph(_Answer(adapted), folder / "answer.onnx", data, base, "logits", axes)
        return
    if model.config.task == "choice":
        pair = {0: "N", 1: "O"}
        axes = {"frames": {1: "T"}, "questions": {0: "N"}, "options": pair, "logits": pair}
        data = {"frames": frames[:1], "questions": texts, "options": texts[:, None].repeat(1, 3, 1)}
        _write_graph(_Choose(adapted), folder / "choose.onnx", data, base, "logits", axes)
        return
    axes = {"frames": {0: "N", 1: "T"}}
    path = folder / "embed_clips.onnx"
    _write_graph(_EmbedClips(adapted), path, {"frames": frames}, base, "embeddings", axes)
    path = folder / "embed_texts.onnx"
    _write_graph(_EmbedTexts(adapted), path, {"texts": texts}, base, "embeddings", {"texts": {0: "N"}})


class _Graph(nn.Module):
    """A model that takes the data and then the update tensors as positional inputs."""

    def __init__(self, adapted: AdaptedModule) -> None:
        super().__init__()
        self.model = adapted.replica
        self.adapter = adapted.adapter  # so that the tracer turns its parameters into constants
        self._adapted = [adapted]

    def values(self, tensors: Sequence[Tensor]) -> Mapping[str, Tensor] | None:
        """Map names to the update tensors, for all rows; None (the base model) if there are no tensors."""
        return dict(zip(self._adapted[0].adapter.shapes, tensors, strict=True)) if tensors else None


class _Answer(_Graph):
    def forward(self, frames: Tensor, questions: Tensor, *tensors: Tensor) -> Tensor:
        mask = torch.ones_like(frames[..., 0], dtype=torch.bool)
        with self._adapted[0].use(self.values(tensors)):
            logits: Tensor = self.model(frames[0], mask[0], questions)
        return logits


class _Choose(_Graph):
    def forward(self, frames: Tensor, questions: Tensor, options: Tensor, *tensors: Tensor) -> Tensor:
        mask = torch.ones_like(frames[..., 0], dtype=torch.bool)
        with self._adapted[0].use(self.values(tensors)):
            logits: Tensor = self.model(frames[0], mask[0], questions, options)
        return logits


class _EmbedClips(_Graph):
    def forward(self, frames: Tensor, *tensors: Tensor) -> Tensor:
        mask = torch.ones_like(frames[..., 0], dtype=torch.bool)
        with self._adapted[0].use(self.values(tensors)):
            embeddings: Tensor = self.model.embed_clips(frames, mask)  # type: ignore[operator]
        return embeddings


class _EmbedTexts(_Graph):
    def forward(self, texts: Tensor, *tensors: Tensor) -> Tensor:
        with self._adapted[0].use(self.values(tensors)):
            embeddings: Tensor = self.model.embed_texts(texts)  # type: ignore[operator]
        return embeddings


def _write_graph(
    graph: _Graph,
    path: Path,
    data: dict[str, Tensor],
    base: dict[str, Tensor],
    output: str,
    axes: dict[str, dict[int, str]],
) -> None:
    trace_graph(graph, path, data | base, [output], {output: {0: "N"}} | axes)


def trace_graph(
    module: nn.Module,
    target: Path | io.BytesIO,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> None:
    """Write a module's forward pass as an ONNX graph, by tracing it.

    torch's newer exporter exports convolutional encoders wrongly and takes ten times as long.

    Args:
        module: Takes and returns tensors by position.
        target: The file, or a buffer.
        inputs: Name -> an example tensor, in the order of the arguments.
        outputs: Names of the outputs, in order.
        axes: Name of an input or output -> its axes of variable length, with their names.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of values that become constants, as intended
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            target,  # type: ignore[arg-type]  # a buffer works, too
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
