"""The update: signed bytes that carry generated parameters to one device. This code calls it `Package`.

Layout: `PCPK`, a format byte, 64-byte Ed25519 signature, safetensors bytes. The signature covers the format
byte and the safetensors bytes. Metadata: `d` device, `m` model, `s` sequence, `e` expiry (unix seconds), `f`
form, `q` quantization, and from format 3 on `i`, the issue time (unix seconds). An int8 or int4 tensor
`NAME` comes with its scales `NAME:s`. Format 2 is format 1 with int4. An update without an issue time is
written in format 1 or 2, which stay readable. Format 4 is format 3 with optional keys: `g`, the generation of
the signing key (absent: 0), `v`, the server's version of the model, and `x`, the update's effect on the
artifact's probe (base64). docs/protocol.md numbers the rules.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from paramcast.protocol import limits
from paramcast.protocol.errors import (
    BadFormat,
    Expired,
    MissingTensor,
    NotFinite,
    SequenceJump,
    StaleSequence,
    TooLarge,
    UnexpectedTensor,
    WrongDevice,
    WrongDtype,
    WrongGeneration,
    WrongModel,
    WrongShape,
)
from paramcast.protocol.quantize import QUANTIZATIONS, Array, Float32, dequantize, quantize, stored_layout
from paramcast.protocol.signing import SIGNATURE_BYTES, SigningKey, check_signature, sign
from paramcast.protocol.tensors import DTYPES, FormatError, pack, unpack

MAGIC = b"PCPK"
FORMATS = {
    b"\x01": ("fp32", "fp16", "int8"),
    b"\x02": ("int4",),
    b"\x03": tuple(QUANTIZATIONS),
    b"\x04": tuple(QUANTIZATIONS),
}
"""Format byte -> the quantizations that the format allows."""

_ISSUED, _LATEST = b"\x03", b"\x04"
"""The first format with an issue time, and the format with optional keys."""

_REQUIRED = {"d", "m", "s", "e", "f", "q"}
_NUMBERS = ("s", "e", "i", "g", "v")
_OPTIONAL = {"g", "v", "x"}
"""Optional metadata keys of format 4."""

_PAYLOAD = len(MAGIC) + 1 + SIGNATURE_BYTES
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Package:
    """An update: parameters for one device.

    Attributes:
        device: The only device that may run the update.
        model: sha256 of the base model that the update belongs to.
        sequence: Grows by at least 1 with every update for the device; from 1.
        expires: Unix time in seconds from which a device may no longer accept the update.
        form: Name of the adapter (`full`, `residual`, `lowrank`, `codes`, ...; joined adapters with `+`).
        quantization: `fp32`, `fp16`, `int8` or `int4`.
        tensors: float32 arrays by name; after `open_package` rounded by the quantization.
        issued: Unix time in seconds of the signature, by the server's clock; None: not given.
        generation: Generation of the signing key in the root's delegation; 0: no root has delegated the key.
        version: The server's version of the model that made the update; None: not given.
        effect: Effect of the update on the artifact's probe (`paramcast.artifact.effect`); None: not given.
    """

    device: str
    model: str
    sequence: int
    expires: int
    form: str
    quantization: str
    tensors: Mapping[str, Float32]
    issued: int | None = None
    generation: int = 0
    version: int | None = None
    effect: bytes | None = None


def seal(package: Package, key: SigningKey) -> bytes:
    """Quantize, serialize and sign an update.

    Raises:
        BadFormat: If a field or a tensor's name is outside its limits.
        WrongDtype: If a tensor is not float32.
        WrongShape: If a tensor is empty or has more than 8 dimensions.
        NotFinite: If a tensor holds NaN or an infinity, or values that float16 cannot hold.
        TooLarge: If the signed update would be over 64 MiB.
    """
    _check_fields(package)
    kind = _format_of(package)
    _check_finite(package.tensors)
    stored: dict[str, Array] = {}
    for name, values in package.tensors.items():
        _check_tensor(name, values)
        stored.update(quantize(name, values, package.quantization))
    if package.quantization == "fp16":  # float16 turns values that are too large into infinities
        _check_finite(stored)
    metadata = {
        "d": package.device,
        "m": package.model,
        "s": str(package.sequence),
        "e": str(package.expires),
        "f": package.form,
        "q": package.quantization,
    }
    if package.issued is not None:
        metadata["i"] = str(package.issued)
    if package.generation:
        metadata["g"] = str(package.generation)
    if package.version is not None:
        metadata["v"] = str(package.version)
    if package.effect is not None:
        metadata["x"] = base64.b64encode(package.effect).decode("ascii")
    payload = kind + pack(metadata, stored)
    if len(MAGIC) + SIGNATURE_BYTES + len(payload) > limits.MAX_PACKAGE_BYTES:
        raise TooLarge(f"the parameters do not fit a package of {limits.MAX_PACKAGE_BYTES} bytes")
    return b"".join([MAGIC, kind, sign(key, payload), memoryview(payload)[len(kind) :]])


def open_package(
    data: bytes,
    public_key: str,
    *,
    device: str,
    model: str,
    after: int,
    now: float,
    expected: Mapping[str, Shape],
    not_before: float = 0.0,
    generation: int | None = None,
) -> Package:
    """Check every rule and return the update; nothing is parsed before the signature has been checked.

    The rules and their order are in docs/protocol.md, section "Updates".

    Args:
        data: Bytes of `seal`.
        public_key: Hex digits of the server's Ed25519 key.
        device: The id of the device that will run the update.
        model: sha256 of the base model that the device runs.
        after: The highest sequence number that the device has run.
        now: Unix time in seconds.
        expected: The update tensors that the model needs, and their shapes: the update must hold all of them,
            and no other.
        not_before: Unix time in seconds that has certainly passed, in case `now` is earlier. It is used only
            for updates without an issue time. With issue times, a newer update with an earlier time shows
            that the clock which gave the later time was wrong.
        generation: Generation in which the root has delegated the key; None: no root is known, and every
            generation is accepted.

    Raises:
        PackageError: The subclass of the first broken rule.
    """
    payload = _signed_payload(data, public_key)
    try:
        metadata, stored = unpack(payload, limits.MAX_PACKAGE_HEADER_BYTES)
    except FormatError as error:
        raise BadFormat(f"the package is malformed: {error}") from error
    head = _read_head(metadata, data[len(MAGIC) : len(MAGIC) + 1])
    if generation is not None and head.generation != generation:
        raise WrongGeneration(
            f"the package is of generation {head.generation}, the key is trusted in generation {generation}"
        )
    if head.device != device:
        raise WrongDevice(f"the package is for device {head.device}, this is {device}")
    if head.model != model:
        raise WrongModel(f"the package is for base model {head.model[:12]}, this device runs {model[:12]}")
    if head.sequence <= after:
        raise StaleSequence(f"package {head.sequence} is not newer than {after}, which this device has run")
    if after and head.sequence > after + limits.MAX_JUMP:
        raise SequenceJump(
            f"package {head.sequence} is more than {limits.MAX_JUMP} above {after}, which this device has "
            "run; have its numbers begin anew: paramcast access reset"
        )
    at = max(now, not_before) if head.issued is None else now
    if at >= head.expires:
        raise Expired(f"the package expired at {head.expires}, it is {at:.0f} now (unix seconds)")
    _check_layout(stored, expected, head.quantization)
    tensors = {name: dequantize(name, stored, tuple(shape)) for name, shape in expected.items()}
    _check_finite(tensors)
    return replace(head, tensors=tensors)


def _signed_payload(data: bytes, public_key: str) -> memoryview:
    """Check size, magic, format and signature, and return the safetensors bytes."""
    if len(data) > limits.MAX_PACKAGE_BYTES:
        raise TooLarge(f"the package has {len(data)} bytes, more than {limits.MAX_PACKAGE_BYTES}")
    if len(data) < _PAYLOAD or not data.startswith(MAGIC):
        raise BadFormat("these bytes are no parameter package")
    kind, signature = data[len(MAGIC) : len(MAGIC) + 1], data[len(MAGIC) + 1 : _PAYLOAD]
    if kind not in FORMATS:
        raise BadFormat(
            f"package format {kind[0]} is unknown here; this version of paramcast reads formats 1 to 4"
        )
    check_signature(public_key, kind + data[_PAYLOAD:], signature)
    return memoryview(data)[_PAYLOAD:]


def _read_head(metadata: Mapping[str, str], kind: bytes) -> Package:
    """Read the update without its tensors; `kind` is its format byte."""
    required = _REQUIRED | {"i"} if kind >= _ISSUED else _REQUIRED
    optional = _OPTIONAL if kind == _LATEST else set()
    if not required <= metadata.keys() <= required | optional:
        raise BadFormat(f"the package's metadata are not those of format {kind[0]}")
    numbers = {name: metadata[name] for name in _NUMBERS if name in metadata}
    if not all(_NUMBER.fullmatch(text) for text in numbers.values()):
        raise BadFormat("a number of the package's metadata is no number")
    if numbers.get("g") == "0":
        raise BadFormat("the package names generation 0, which is none")
    head = Package(
        device=metadata["d"],
        model=metadata["m"],
        sequence=int(numbers["s"]),
        expires=int(numbers["e"]),
        form=metadata["f"],
        quantization=metadata["q"],
        tensors={},
        issued=int(numbers["i"]) if "i" in numbers else None,
        generation=int(numbers.get("g", "0")),
        version=int(numbers["v"]) if "v" in numbers else None,
        effect=_effect(metadata.get("x")),
    )
    _check_fields(head)
    if head.quantization not in FORMATS[kind]:
        raise BadFormat(f"in format {kind[0]} the quantization must be one of {', '.join(FORMATS[kind])}")
    return head


def _effect(text: str | None) -> bytes | None:
    """Decode base64; only the canonical spelling is valid."""
    if text is None:
        return None
    try:
        effect = base64.b64decode(text, validate=True)
    except ValueError:
        effect = b""
    if base64.b64encode(effect).decode("ascii") != text:
        raise BadFormat("the package's effect is no base64")
    return effect


def _check_fields(head: Package) -> None:
    if not limits.DEVICE_ID.fullmatch(head.device):
        raise BadFormat("the package's device id is malformed")
    if not limits.MODEL_ID.fullmatch(head.model):
        raise BadFormat("the package's model is no sha256 of 64 lower-case hex digits")
    if not 1 <= head.sequence <= limits.MAX_SEQUENCE:
        raise BadFormat(f"the package's sequence number must be 1 to {limits.MAX_SEQUENCE}")
    if not 0 <= head.expires <= limits.MAX_TIME:
        raise BadFormat(f"the package's expiry must be 0 to {limits.MAX_TIME}")
    if head.issued is not None and not 0 <= head.issued <= head.expires:
        raise BadFormat("the package's issue time must be 0 up to its expiry")
    if not 0 <= head.generation <= limits.MAX_SEQUENCE:
        raise BadFormat(f"the package's generation must be 0 to {limits.MAX_SEQUENCE}")
    if head.version is not None and not 1 <= head.version <= limits.MAX_SEQUENCE:
        raise BadFormat(f"the package's model version must be 1 to {limits.MAX_SEQUENCE}")
    if head.effect is not None and not 0 < len(head.effect) <= limits.MAX_EFFECT_BYTES:
        raise BadFormat(f"the package's effect must have 1 to {limits.MAX_EFFECT_BYTES} bytes")
    if not limits.FORM.fullmatch(head.form):
        raise BadFormat("the package's form is malformed")


def _format_of(package: Package) -> bytes:
    """Choose the format byte: the oldest format that can hold the update, so that older devices read it."""
    latest = package.generation > 0 or package.version is not None or package.effect is not None
    if latest and package.issued is None:
        raise BadFormat("a package with a generation, a version or an effect must say when it was issued")
    least = _LATEST if latest else b"\x01" if package.issued is None else _ISSUED
    for kind, known in FORMATS.items():
        if kind >= least and package.quantization in known:
            return kind
    raise BadFormat(f"quantization must be one of {', '.join(QUANTIZATIONS)}")


def _check_tensor(name: str, values: Array) -> None:
    if len(name) > limits.MAX_TENSOR_NAME or not limits.TENSOR_NAME.fullmatch(name):
        raise BadFormat(f"a tensor may not be called {name[: limits.MAX_TENSOR_NAME]!r}")
    if values.dtype != np.float32:
        raise WrongDtype(f"tensor {name} must be float32, not {values.dtype}")
    if values.size == 0 or values.ndim > limits.MAX_DIMENSIONS:
        raise WrongShape(f"tensor {name} of shape {values.shape} cannot be sent")


def _check_layout(stored: Mapping[str, Array], expected: Mapping[str, Shape], quantization: str) -> None:
    """Compare names, dtypes and shapes with the model's before any tensor is dequantized."""
    layout: dict[str, tuple[str, Shape]] = {}
    for name, shape in expected.items():
        layout.update(stored_layout(name, tuple(shape), quantization))
    if missing := sorted(layout.keys() - stored.keys()):
        raise MissingTensor(f"the package lacks {len(missing)} tensors, the first is {missing[0]}")
    if extra := sorted(stored.keys() - layout.keys()):
        raise UnexpectedTensor(
            f"the package has {len(extra)} tensors too many, the first is {extra[0]!r:.200}"
        )
    for name, (dtype, shape) in layout.items():
        if stored[name].dtype != DTYPES[dtype]:
            raise WrongDtype(f"tensor {name} must be {DTYPES[dtype]}, not {stored[name].dtype}")
        if stored[name].shape != shape:
            raise WrongShape(f"tensor {name} must have shape {shape}, not {stored[name].shape}")


def _check_finite(tensors: Mapping[str, Array]) -> None:
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise NotFinite(f"tensor {name} holds NaN or an infinity")
