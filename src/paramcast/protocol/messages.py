"""A device's request: features of its anchor frames and queries, under 300 bytes for each clip.

It is stored as safetensors. Metadata: `d` device, `m` model, `s` sequence. There are two uint8 tensors. `a`
(K, Ui + 4) has one row for each anchor: int8 codes, then their scale (float32, little-endian). `q` (M, Ut +
5) has one row for each query: codes, scale, and the index of its clip. The request has two tensors instead of
five, because each tensor takes 60 bytes in the header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramcast.protocol import limits
from paramcast.protocol.errors import MessageError
from paramcast.protocol.quantize import Array, Float32, from_int8, to_int8
from paramcast.protocol.tensors import FormatError, pack, unpack

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_TAILS = {"a": 4, "q": 5}
"""Number of bytes after the codes of a row."""


@dataclass(frozen=True, eq=False)
class AdaptRequest:
    """A device's request for an update.

    Attributes:
        device: The device's id: a letter or digit, then up to 127 letters, digits or characters of `._:@+-`.
        model: sha256 of the base model, 64 lower-case hex digits.
        sequence: The highest sequence number that the device has run so far; 0 if it has only run the base.
        anchors: (K, Ui) float32, one row for each clip, 1 <= K <= 256.
        queries: (M, Ut) float32, 0 <= M <= 2048.
        clip_of_query: (M,) int64, for each query the row of `anchors` that it was asked about.
    """

    device: str
    model: str
    sequence: int
    anchors: Float32
    queries: Float32
    clip_of_query: NDArray[np.int64]

    def encode(self) -> bytes:
        """Encode the request as bytes; features are rounded to int8 with one scale for each row.

        Raises:
            MessageError: If a field is outside its limits.
        """
        _check(self)
        clips = self.clip_of_query.astype(np.uint8)[:, None]
        data = pack(
            {"d": self.device, "m": self.model, "s": str(self.sequence)},
            {"a": _to_bytes(self.anchors), "q": np.concatenate([_to_bytes(self.queries), clips], axis=1)},
        )
        if len(data) > limits.MAX_REQUEST_BYTES:
            raise MessageError(f"the request has {len(data)} bytes, more than {limits.MAX_REQUEST_BYTES}")
        return data

    @classmethod
    def decode(cls, data: bytes) -> AdaptRequest:
        """Read the bytes of `encode`; features differ by at most 1/254 of their row's largest magnitude.

        Raises:
            MessageError: For any other bytes.
        """
        if len(data) > limits.MAX_REQUEST_BYTES:
            raise MessageError(f"the request has {len(data)} bytes, more than {limits.MAX_REQUEST_BYTES}")
        try:
            metadata, arrays = unpack(data, limits.MAX_REQUEST_HEADER_BYTES)
        except FormatError as error:
            raise MessageError(f"the request is malformed: {error}") from error
        if metadata.keys() != {"d", "m", "s"} or not _NUMBER.fullmatch(metadata["s"]):
            raise MessageError("the request must name its device, model and sequence number")
        _check_arrays(arrays)
        request = cls(
            device=metadata["d"],
            model=metadata["m"],
            sequence=int(metadata["s"]),
            anchors=_from_bytes(arrays["a"]),
            queries=_from_bytes(arrays["q"][:, :-1]),
            clip_of_query=arrays["q"][:, -1].astype(np.int64),
        )
        _check(request)
        return request


def _to_bytes(rows: Float32) -> NDArray[np.uint8]:
    """Encode rows (R, N) float32 as (R, N + 4) uint8: codes, then the scale."""
    codes, scales = to_int8(rows)
    return np.concatenate([codes.view(np.uint8), scales.astype("<f4")[:, None].view(np.uint8)], axis=1)


def _from_bytes(rows: NDArray[np.uint8]) -> Float32:
    """Invert `_to_bytes`."""
    scales = np.ascontiguousarray(rows[:, -4:]).view("<f4")[:, 0]
    return from_int8(rows[:, :-4].view(np.int8), scales)


def _check_arrays(arrays: dict[str, Array]) -> None:
    """Check names, dtypes and shapes."""
    if arrays.keys() != _TAILS.keys():
        raise MessageError(f"the request's tensors must be {', '.join(_TAILS)}")
    for name, tail in _TAILS.items():
        if arrays[name].dtype != np.uint8:
            raise MessageError(f"the request's tensor {name!r} must be uint8")
        if arrays[name].ndim != 2 or arrays[name].shape[1] <= tail:
            raise MessageError(f"the request's tensor {name!r} must have rows of over {tail} bytes")


def _check(request: AdaptRequest) -> None:
    """Raise MessageError if a field is outside its limits; `encode` and `decode` use the same check."""
    if not limits.DEVICE_ID.fullmatch(request.device):
        raise MessageError(
            "a device id begins with a letter or digit and has at most 128 letters, digits and ._:@+-"
        )
    if not limits.MODEL_ID.fullmatch(request.model):
        raise MessageError("the model must be a sha256 of 64 lower-case hex digits")
    if not 0 <= request.sequence <= limits.MAX_SEQUENCE:
        raise MessageError(f"the sequence number must be 0 to {limits.MAX_SEQUENCE}")
    _check_features("anchors", request.anchors, 1, limits.MAX_CLIPS)
    _check_features("queries", request.queries, 0, limits.MAX_QUERIES)
    clips = request.clip_of_query
    if clips.dtype.kind not in "iu" or clips.shape != request.queries.shape[:1]:
        raise MessageError("every query must name its clip")
    if clips.size and (clips.min() < 0 or clips.max() >= len(request.anchors)):
        raise MessageError("a query names a clip that has no anchor")


def _check_features(what: str, rows: NDArray[Any], least: int, most: int) -> None:
    if rows.dtype != np.float32 or rows.ndim != 2:
        raise MessageError(f"{what} must be a float32 array of two dimensions")
    if not least <= len(rows) <= most:
        raise MessageError(f"{what} must have {least} to {most} rows, not {len(rows)}")
    if not 1 <= rows.shape[1] <= limits.MAX_REQUEST_BYTES:
        raise MessageError(f"{what} of shape {rows.shape} do not fit a request")
    if not np.isfinite(rows).all():
        raise MessageError(f"{what} hold NaN or an infinity")


def padded(sets: Sequence[np.ndarray], width: int) -> tuple[Float32, NDArray[np.bool_]]:
    """Stack sets of different sizes, filled up with zeros.

    Args:
        sets: B arrays (K, width); K may differ.
        width: Length of a row.

    Returns:
        The rows (B, longest, width) float32, zero after the end of a set, and a mask (B, longest) bool;
        longest >= 1.
    """
    longest = max(1, *(len(rows) for rows in sets))
    values = np.zeros((len(sets), longest, width), np.float32)
    mask = np.zeros((len(sets), longest), bool)
    for place, rows in enumerate(sets):
        values[place, : len(rows)], mask[place, : len(rows)] = rows, True
    return values, mask
