"""What an encoder is, and the registries: a name gives an encoder, its module is imported only then."""

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
    """The first `dim` numbers of the features of text encoder `encoder`."""

    encoder: str
    dim: int


class Encoder(Protocol):
    """What every frozen trunk has. `fingerprint` changes whenever its features may."""

    @property
    def name(self) -> str:
        """The name that makes it."""

    @property
    def dim(self) -> int:
        """Numbers a feature."""

    @property
    def fingerprint(self) -> str:
        """Short hex of everything that its features depend on."""

    @property
    def onnx_path(self) -> Path | None:
        """The graph for a device, or None when it cannot run on one."""


class ImageEncoder(Encoder, Protocol):
    """A frozen image trunk; its graph: `frames` -> `features`."""

    @property
    def text_space(self) -> TextSpace | None:
        """Where the last numbers of a feature lie, if that is among the features of a text trunk."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB of any size, N >= 0 -> (N, dim) float32."""


class TextEncoder(Encoder, Protocol):
    """A frozen text trunk; its graph: `input_ids`, `attention_mask` -> `features`."""

    @property
    def tokenizer_path(self) -> Path | None:
        """The tokenizer for a device, truncation included, or None."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """N >= 0 texts of any length -> (N, dim) float32, L2-normalized."""


class AudioEncoder(Encoder, Protocol):
    """A frozen audio trunk; its graph: `sounds` -> `features`."""

    @property
    def rate(self) -> int:
        """Samples a second that it expects."""

    @property
    def window(self) -> int:
        """Samples of the window S that makes one feature."""

    def __call__(self, sounds: np.ndarray) -> np.ndarray:
        """(N, S) float32 in [-1, 1], mono, N >= 0 -> (N, dim) float32."""


# name -> module:function. What a name has behind its first ":" is handed to the function as it is.
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
        InputError: there is no such encoder; the message lists those there are.
        MissingExtraError: the packages that hold its weights are not installed.
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
        raise InputError(f"{kind} encoder {family!r} takes nothing behind its name; write {family!r}")
    return make()


def shared_dim(image: ImageEncoder, text: TextEncoder) -> int:
    """How many of an image feature's last numbers, and of a text feature's first, are of one space."""
    return image.text_space.dim if image.text_space and image.text_space.encoder == text.name else 0


def cached_file(name: str, write: Callable[[Path], None], extra: str = "train") -> Path:
    """The file `name` of the cache, made by `write` on first use; raises MissingExtraError(`extra`)."""
    path = cache_dir("encoders") / name
    if not path.is_file():
        try:
            with replacing(path) as temporary:
                write(temporary)
        except ImportError as error:
            raise MissingExtraError(f"making {path.name}", extra) from error
    return path


def fingerprint(*paths: Path) -> str:
    """Short hex of the SHA-256 over the bytes of `paths`."""
    state = hashlib.sha256()
    for path in paths:
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def onnx_session(graph: Path | bytes, threads: int | None = None) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU, of a file or of its bytes, with `threads` threads or one a core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    source = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxImageEncoder:
    """An image trunk in an ONNX file that takes `frames` (N, H, W, 3) uint8 and gives `features` (N, dim)."""

    def __init__(self, name: str, path: Path, text_space: TextSpace | None = None, notice: str = "") -> None:
        self.name = name
        self.notice = notice  # whose the weights are, for `NOTICES` of what is exported
        self.onnx_path: Path | None = path
        self.text_space = text_space
        self.fingerprint = fingerprint(path)
        self._session = onnx_session(path)
        self.dim = int(self._session.get_outputs()[0].shape[1])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB -> (N, dim) float32; N may be 0."""
        if not len(frames):
            return np.empty((0, self.dim), np.float32)
        return np.asarray(self._session.run(["features"], {"frames": frames})[0])
