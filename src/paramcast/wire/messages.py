"""What a device asks: features of its anchor frames and queries, about 200 bytes a clip.

Stored as safetensors. Metadata: `d` device, `m` model, `s` sequence. Tensors: `a` and `q`, int8 codes of the
anchors and queries; `as` and `qs`, their scales; `c`, uint8, the clip of each query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramcast.wire import limits
from paramcast.wire.errors import MessageError
from paramcast.wire.quantise import Array, Float32, from_int8, to_int8
from paramcast.wire.tensors import FormatError, pack, unpack

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_DTYPES = {"a": np.int8, "as": np.float32, "q": np.int8, "qs": np.float32, "c": np.uint8}


@dataclass(frozen=True, eq=False)
class AdaptRequest:
    """A device's request for parameters.

    Attributes:
        device: The device's id: a letter or digit, then up to 127 of letters, digits and `._:@+-`.
        model: sha256 of the base model, 64 lower-case hex digits.
        sequence: The highest sequence number that the device has run so far; 0 if it has only run the base.
        anchors: (K, Ui) float32, one row a clip, 1 <= K <= 256.
        queries: (M, Ut) float32, 0 <= M <= 2048.
        clip_of_query: (M,) int64, the row of `anchors` that each query was asked about.
    """

    device: str
    model: str
    sequence: int
    anchors: Float32
    queries: Float32
    clip_of_query: NDArray[np.int64]

    def encode(self) -> bytes:
        """The request as bytes; features are rounded to int8 with one scale a row.

        Raises:
            MessageError: If a field is outside its limits.
        """
        _check(self)
        anchors, anchor_scales = to_int8(self.anchors)
        queries, query_scales = to_int8(self.queries)
        data = pack(
            {"d": self.device, "m": self.model, "s": str(self.sequence)},
            {
                "a": anchors,
                "as": anchor_scales,
                "q": queries,
                "qs": query_scales,
                "c": self.clip_of_query.astype(np.uint8),
            },
        )
        if len(data) > limits.MAX_REQUEST_BYTES:
            raise MessageError(f"the request has {len(data)} bytes, more than {limits.MAX_REQUEST_BYTES}")
        return data

    @classmethod
    def decode(cls, data: bytes) -> AdaptRequest:
        """Read what `encode` wrote; features differ by at most 1/254 of their row's largest magnitude.

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
            anchors=from_int8(arrays["a"], arrays["as"]),
            queries=from_int8(arrays["q"], arrays["qs"]),
            clip_of_query=arrays["c"].astype(np.int64),
        )
        _check(request)
        return request


def _check_arrays(arrays: dict[str, Array]) -> None:
    """Check names, dtypes and how the shapes belong together."""
    if arrays.keys() != _DTYPES.keys():
        raise MessageError(f"the request's tensors must be {', '.join(_DTYPES)}")
    for name, dtype in _DTYPES.items():
        if arrays[name].dtype != dtype:
            raise MessageError(f"the request's tensor {name!r} must be {np.dtype(dtype)}")
    if arrays["a"].ndim != 2 or arrays["q"].ndim != 2:
        raise MessageError("the request's features must have two dimensions")
    if arrays["as"].shape != arrays["a"].shape[:1] or arrays["qs"].shape != arrays["q"].shape[:1]:
        raise MessageError("the request must give one scale a row")


def _check(request: AdaptRequest) -> None:
    """Raise MessageError if a field is outside its limits; used on both ways, so that they agree."""
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
