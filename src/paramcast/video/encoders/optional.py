"""Encoders from open_clip, timm and torchvision; they need these packages and their weights.

They run in torch and have no ONNX file. So they serve for experiments on a server, and cannot be exported to
devices.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.errors import InputError, MissingExtraError
from paramcast.video.encoders.base import TextSpace

BATCH = 32


class TorchImageEncoder:
    """An image encoder in torch: resize with antialiasing, scale, normalize, encode."""

    onnx_path: Path | None = None

    def __init__(
        self,
        name: str,
        encode: Callable[[Any], Any],
        owner: Any,
        *,
        is_dual: bool = False,
        **preprocessing: Any,
    ) -> None:
        """Wrap an encoder.

        Args:
            name: the registry's name of the encoder.
            encode: (N, 3, S, S) float tensor -> (N, dim) tensor.
            owner: the module that `encode` belongs to; the fingerprint depends on its weights.
            is_dual: whether the text encoder of the same name gives features in the same space.
            preprocessing: `side` in pixels; `mean` and `std` of the channels, for pixels in [0, 1].
        """
        self.name = name
        self._encode = encode
        self._preprocessing = preprocessing
        self.fingerprint = _fingerprint(name, owner, preprocessing)
        self.dim = self._run(np.zeros((1, 8, 8, 3), np.uint8)).shape[1]
        self.text_space = TextSpace(name, self.dim) if is_dual else None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames (N, H, W, 3) uint8 RGB: (N, dim) float32; N may be 0."""
        batches = [self._run(frames[first : first + BATCH]) for first in range(0, len(frames), BATCH)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *batches])

    def _run(self, frames: np.ndarray) -> np.ndarray:
        import torch

        side, mean, std = (self._preprocessing[key] for key in ("side", "mean", "std"))
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
            size = (side, side)
            small = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
            centred = (small.clamp(0, 1) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
                :, None, None
            ]
            return np.asarray(self._encode(centred).float().numpy())


class TorchTextEncoder:
    """A text encoder in torch with its tokenizer."""

    onnx_path: Path | None = None
    tokenizer_path: Path | None = None

    def __init__(self, name: str, tokenize: Callable[[list[str]], Any], model: Any) -> None:
        """Wrap `model.encode_text`, which takes the output of `tokenize`."""
        self.name = name
        self._tokenize = tokenize
        self._model = model
        self.fingerprint = _fingerprint(name, model, {})
        self.dim = self._run([""]).shape[1]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N >= 0 texts: (N, dim) float32, L2-normalized."""
        batches = [self._run(list(texts[first : first + BATCH])) for first in range(0, len(texts), BATCH)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *batches])

    def _run(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            features = self._model.encode_text(self._tokenize(texts)).float()
            return np.asarray(torch.nn.functional.normalize(features, dim=1).numpy())


def open_clip_image(rest: str) -> TorchImageEncoder:
    """Make the image encoder of `open_clip:ARCH:PRETRAINED`; PRETRAINED is a tag or a checkpoint's path."""
    open_clip, model, _ = _open_clip(rest)
    visual = model.visual
    side = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    constants = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    own = {key: getattr(visual, f"image_{key}", None) or value for key, value in constants.items()}
    return TorchImageEncoder(f"open_clip:{rest}", model.encode_image, visual, is_dual=True, side=side, **own)


def open_clip_text(rest: str) -> TorchTextEncoder:
    """Make the text encoder of `open_clip:ARCH:PRETRAINED`."""
    open_clip, model, architecture = _open_clip(rest)
    return TorchTextEncoder(f"open_clip:{rest}", open_clip.get_tokenizer(architecture), model)


def _open_clip(rest: str) -> tuple[Any, Any, str]:
    architecture, _, pretrained = rest.partition(":")
    if not architecture or not pretrained:
        raise InputError("write open_clip:ARCH:PRETRAINED, such as open_clip:ViT-B-32:openai")
    open_clip = _package("open_clip", "clip")
    try:
        model = open_clip.create_model(architecture, pretrained=pretrained).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"open_clip cannot load {rest!r}: {error}") from error
    return open_clip, model, architecture


def timm_image(rest: str) -> TorchImageEncoder:
    """Make the encoder `timm:NAME`, with its pretrained weights and without its classifier."""
    timm = _package("timm", "timm")
    try:
        model = timm.create_model(rest, pretrained=True, num_classes=0).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"timm cannot load {rest!r}: {error}") from error
    config = timm.data.resolve_model_data_config(model)
    preprocessing = {"side": config["input_size"][1], "mean": config["mean"], "std": config["std"]}
    return TorchImageEncoder(f"timm:{rest}", model, model, **preprocessing)


def torchvision_image(rest: str) -> TorchImageEncoder:
    """Make the encoder `torchvision:NAME`, with its default weights and without its classifier.

    The features are the inputs of the removed classifier.
    """
    models = _package("torchvision.models", "timm")
    import torch

    try:
        weights = models.get_model_weights(rest).DEFAULT
        model = models.get_model(rest, weights=weights).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"torchvision cannot load {rest!r}: {error}") from error
    head = next((name for name in ("fc", "classifier", "heads", "head") if hasattr(model, name)), None)
    if head is None:
        raise InputError(f"torchvision:{rest} has no classifier to remove; choose a classification model")
    setattr(model, head, torch.nn.Identity())
    transforms = weights.transforms()
    preprocessing = {"side": transforms.crop_size[0], "mean": transforms.mean, "std": transforms.std}
    return TorchImageEncoder(f"torchvision:{rest}", model, model, **preprocessing)


def _package(name: str, extra: str) -> Any:
    try:
        _import_torchvision()
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"an encoder of {name.partition('.')[0]}", extra) from error


def _import_torchvision() -> None:
    """Import torchvision, if it is installed, with any build of torch.

    If its compiled part belongs to another build of torch, as it often does with torch for the CPU, the
    import fails because two operators of object detection are missing. No encoder calls these operators, so
    declaring them is enough.
    """
    try:
        with contextlib.suppress(ImportError):
            importlib.import_module("torchvision")
    except RuntimeError:
        import torch

        for name in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)
        for module in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[module]  # partly imported modules
        importlib.import_module("torchvision")


def _fingerprint(name: str, owner: Any, preprocessing: dict[str, Any]) -> str:
    state = hashlib.sha256(f"{name} {sorted(preprocessing.items())}".encode())
    for key, value in sorted(owner.state_dict().items()):
        state.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]
