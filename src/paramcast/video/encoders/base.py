"""Interfaces of encoders, and registries that map a name to an encoder; modules are imported on demand."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from paramcast.errors import InputError, MissingExtraError
from paramcast.files import replacing
from paramcast.paths import cache_dir


class TextSpace(NamedTuple):
    """Space of the first `dim` numbers of the features of text encoder `encoder`."""

    encoder: str
    dim: int


class Encoder(Protocol):
    """Interface of a frozen encoder. `fingerprint` changes whenever the features may change."""

    @property
    def name(self) -> str:
        """The registry's name of the encoder."""

    @property
    def dim(self) -> int:
        """Length of a feature."""

    @property
    def fingerprint(self) -> str:
        """Short hex hash of everything that the features depend on."""

    @property
    def onnx_path(self) -> Path | None:
        """The graph for a device, or None if the encoder cannot run on a device."""


class ImageEncoder(Encoder, Protocol):
    """A frozen image encoder; its graph: `frames` -> `features`."""

    @property
    def text_space(self) -> TextSpace | None:
        """Space of the last numbers of a feature if it is shared with a text encoder, else None."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames (N, H, W, 3) uint8 RGB of any size, N >= 0: (N, dim) float32."""


class TextEncoder(Encoder, Protocol):
    """A frozen text encoder; its graph: `input_ids`, `attention_mask` -> `features`."""

    @property
    def tokenizer_path(self) -> Path | None:
        """The tokenizer for a device, truncation included, or None."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N >= 0 texts of any length: (N, dim) float32, L2-normalized."""


class AudioEncoder(Encoder, Protocol):
    """A frozen audio encoder; its graph: `sounds` -> `features`."""

    @property
    def rate(self) -> int:
        """Expected samples per second."""

    @property
    def window(self) -> int:
        """Number of samples S of the window of one feature."""

    def __call__(self, sounds: np.ndarray) -> np.ndarray:
        """Encode windows (N, S) float32 in [-1, 1], mono, N >= 0: (N, dim) float32."""


# name -> module:function. The part of a name after its first ":" is the argument of the function.
IMAGE_ENCODERS: Mapping[str, str] = MappingProxyType(
    {
        "efficientnet-lite0": "paramcast.video.encoders.efficientnet_lite:fp32",
        "efficientnet-lite0-int8": "paramcast.video.encoders.efficientnet_lite:int8",
        "efficientnet-lite0-conse": "paramcast.video.encoders.conse:fp32",
        "efficientnet-lite0-conse-int8": "paramcast.video.encoders.conse:int8",
        "open_clip": "paramcast.video.encoders.optional:open_clip_image",
        "timm": "paramcast.video.encoders.optional:timm_image",
        "torchvision": "paramcast.video.encoders.optional:torchvision_image",
    }
)
TEXT_ENCODERS: Mapping[str, str] = MappingProxyType(
    {
        "minilm-l6-int8": "paramcast.video.encoders.minilm:int8",
        "open_clip": "paramcast.video.encoders.optional:open_clip_text",
    }
)
AUDIO_ENCODERS: Mapping[str, str] = MappingProxyType({"yamnet-int8": "paramcast.video.encoders.yamnet:int8"})


def image_encoder(name: str = "efficientnet-lite0") -> ImageEncoder:
    """Make the image encoder `name`.

    Raises:
        InputError: there is no such encoder; the message lists the known encoders.
        MissingExtraError: the packages with the encoder's weights are not installed.
    """
    encoder: ImageEncoder = _make(name, IMAGE_ENCODERS, "image")
    return encoder


def text_encoder(name: str = "minilm-l6-int8") -> TextEncoder:
    """Make the text encoder `name`; raises as `image_encoder` does."""
    encoder: TextEncoder = _make(name, TEXT_ENCODERS, "text")
    return encoder


def audio_encoder(name: str = "yamnet-int8") -> AudioEncoder:
    """Make the audio encoder `name`; raises as `image_encoder` does."""
    encoder: AudioEncoder = _make(name, AUDIO_ENCODERS, "audio")
    return encoder


def _make(name: str, registry: Mapping[str, str], kind: str) -> Any:
    family, colon, rest = name.partition(":")
    if family not in registry:
        raise InputError(f"unknown {kind} encoder {name!r}; known are {', '.join(registry)}")
    module, function = registry[family].split(":")
    make = getattr(importlib.import_module(module), function)
    if "optional" in module:
        return make(rest)
    if colon:
        raise InputError(f"{kind} encoder {family!r} takes nothing after its name; write {family!r}")
    return make()


def shared_dim(image: ImageEncoder, text: TextEncoder) -> int:
    """Return how many dimensions the encoders share: an image feature's last and a text feature's first."""
    return image.text_space.dim if image.text_space and image.text_space.encoder == text.name else 0


def cached_file(name: str, write: Callable[[Path], None], extra: str = "train") -> Path:
    """Return the path of the cached file `name`; `write` makes it on first use.

    Raises:
        MissingExtraError: `write` needs a package of `extra` that is not installed.
    """
    path = cache_dir("encoders") / name
    if not path.is_file():
        try:
            with replacing(path) as temporary:
                write(temporary)
        except ImportError as error:
            raise MissingExtraError(f"making {path.name}", extra) from error
    return path


def fingerprint(*paths: Path) -> str:
    """Compute a short hex hash: the first 16 digits of the SHA-256 over the bytes of `paths`."""
    state = hashlib.sha256()
    for path in paths:
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def onnx_session(graph: Path | bytes, threads: int | None = None) -> ort.InferenceSession:
    """Make an ONNX Runtime session on the CPU from a file or its bytes; by default one thread per core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    source = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxImageEncoder:
    """An image encoder in an ONNX file: `frames` (N, H, W, 3) uint8 -> `features` (N, dim) float32."""

    def __init__(self, name: str, path: Path, text_space: TextSpace | None = None, notice: str = "") -> None:
        self.name = name
        self.notice = notice  # authors and license of the weights, for the file `NOTICES` of an export
        self.onnx_path: Path | None = path
        self.text_space = text_space
        self.fingerprint = fingerprint(path)
        self._session = onnx_session(path)
        self.dim = int(self._session.get_outputs()[0].shape[1])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames (N, H, W, 3) uint8 RGB: (N, dim) float32; N may be 0."""
        if not len(frames):
            return np.empty((0, self.dim), np.float32)
        return np.asarray(self._session.run(["features"], {"frames": frames})[0])
