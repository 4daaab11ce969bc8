"""A strict reader and writer of the safetensors format for untrusted bytes.

The reader checks the header's length, every name, dtype, shape and offset with Python integers (which do not
overflow) before it makes an array. Arrays are views of the given bytes, so that reading never allocates more
than the header. The writer is deterministic. The writer of the library safetensors is not, because its
metadata have no fixed order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramcast.protocol.limits import MAX_DIMENSIONS, MAX_PACKAGE_BYTES

DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_METADATA = "__metadata__"
_LENGTH_BYTES = 8

Array = NDArray[Any]


class FormatError(ValueError):
    """The bytes break a rule of the format; the callers convert it to an error of their format."""


def pack(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> bytes:
    """Write `metadata` and `arrays` (dtypes uint8, int8, float16, float32) as safetensors bytes.

    Arrays are ordered from the widest dtype to the narrowest, so that every array begins aligned.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    chunks: list[bytes] = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        array = arrays[name]
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPE_NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        chunks.append(np.ascontiguousarray(array).tobytes())
    text = _ENCODER.encode(header).encode()
    text += b" " * (-len(text) % 8)  # in this format the data begin at a multiple of 8 bytes
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *chunks])


def unpack(data: bytes | memoryview, max_header: int) -> tuple[dict[str, str], dict[str, Array]]:
    """Read safetensors bytes: metadata, and arrays that are read-only views of `data`.

    Raises:
        FormatError: Unless the bytes are a complete, gapless file with a header of at most `max_header`
            bytes.
    """
    view = memoryview(data).toreadonly()
    length = int.from_bytes(view[:_LENGTH_BYTES], "little")
    if len(view) < _LENGTH_BYTES or length > min(max_header, len(view) - _LENGTH_BYTES):
        raise FormatError("the header's length is wrong or over the limit")
    body = view[_LENGTH_BYTES + length :]
    header = _parse_header(bytes(view[_LENGTH_BYTES : _LENGTH_BYTES + length]))
    metadata = _check_metadata(header.pop(_METADATA, {}))
    entries = {name: _check_entry(name, entry) for name, entry in header.items()}
    _check_gapless([(begin, end) for _, _, begin, end in entries.values()], len(body))
    arrays = {
        name: np.frombuffer(body[begin:end], dtype=dtype).reshape(shape)
        for name, (dtype, shape, begin, end) in entries.items()
    }
    return metadata, arrays


def _parse_header(text: bytes) -> dict[str, Any]:
    try:
        header = _DECODER.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError("the header is no JSON object") from error
    if not isinstance(header, dict):
        raise FormatError("the header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise FormatError("the header holds a key twice")
    return table


def _no_constant(name: str) -> None:
    raise FormatError(f"the header holds {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("the metadata are not a table of strings")
    return metadata


def _check_entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Check one tensor's entry; returns (dtype, shape, first byte, byte after the last)."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise FormatError(f"tensor {name!r} has an unknown dtype")
    shape = _natural_numbers(name, entry["shape"])
    offsets = _natural_numbers(name, entry["data_offsets"])
    # A size of 0 counts as 1 here: an empty tensor with another, huge axis overflows inside numpy.
    if len(shape) > MAX_DIMENSIONS or math.prod([size or 1 for size in shape]) > MAX_PACKAGE_BYTES:
        raise FormatError(f"the shape of tensor {name!r} is over the limit")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise FormatError(f"tensor {name!r}: the offsets do not fit its shape and dtype")
    return dtype, shape, offsets[0], offsets[1]


def _natural_numbers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or [v for v in values if type(v) is not int or v < 0]:
        raise FormatError(f"tensor {name!r}: shape and offsets are lists of whole numbers from 0")
    return tuple(values)


def _check_gapless(spans: list[tuple[int, int]], size: int) -> None:
    expected = 0
    for begin, end in sorted(spans):
        if begin != expected:
            raise FormatError("the tensors overlap or leave gaps")
        expected = end
    if expected != size:
        raise FormatError("the tensors do not fill the file exactly")
