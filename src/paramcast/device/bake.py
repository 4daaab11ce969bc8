"""Weights as constants: a graph whose package tensors are no inputs any more.

A session that is given such a graph can prepare its weights once (pack them, fold what follows from them),
where it has to do without as long as they may change from run to run.

The graph is changed in the bytes of its file, so that a device needs no `onnx`: of protobuf's wire format
(https://protobuf.dev/programming-guides/encoding) only what an ONNX file consists of. Fields by number, as
in onnx.proto3: ModelProto.graph 7; GraphProto.initializer 5, input 11; ValueInfoProto.name 1;
TensorProto.dims 1, data_type 2 (1 is float), name 8, raw_data 9.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paramcast.device.inputs import Parameters

_GRAPH, _INITIALIZER, _INPUT, _VALUE_NAME = 7, 5, 11, 1
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA, _FLOAT = 1, 2, 8, 9, 1
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
"""Wire types of fixed length -> bytes."""


def bake(model: bytes, parameters: Parameters) -> bytes:
    """The ONNX file `model` with those of its inputs that are in `parameters` as constants.

    Args:
        model: A whole file, weights included.
        parameters: float32 arrays by name; names that are no inputs are left out.

    Raises:
        ValueError: These bytes are no protobuf message.
    """
    parts: list[bytes] = []
    for number, whole, content in _fields(memoryview(model)):
        parts.append(_bytes_field(_GRAPH, _baked(content, parameters)) if number == _GRAPH else bytes(whole))
    return b"".join(parts)


def _baked(graph: memoryview, parameters: Parameters) -> bytes:
    parts: list[bytes] = []
    for number, whole, content in _fields(graph):
        name = _name_of(content) if number == _INPUT else ""
        if name in parameters:
            parts.append(_bytes_field(_INITIALIZER, _tensor(name, parameters[name])))
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def _name_of(value_info: memoryview) -> str:
    return next((bytes(c).decode() for number, _, c in _fields(value_info) if number == _VALUE_NAME), "")


def _tensor(name: str, values: np.ndarray) -> bytes:
    little = np.ascontiguousarray(values, "<f4")
    dims = b"".join(_varint(_DIMS << 3 | _VARINT) + _varint(size) for size in values.shape)
    kind = _varint(_DATA_TYPE << 3 | _VARINT) + _varint(_FLOAT)
    return dims + kind + _bytes_field(_TENSOR_NAME, name.encode()) + _bytes_field(_RAW_DATA, little.tobytes())


def _bytes_field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Each field's number (0 unless it has a length of its own), all of its bytes, and its content."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        number, kind = key >> 3, key & 7
        content = message[:0]
        if kind == _VARINT:
            _, at = _read_varint(message, at)
        elif kind == _LENGTH:
            size, at = _read_varint(message, at)
            content, at = message[at : at + size], at + size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {start} is none that an ONNX file has")
        if at > len(message):
            raise ValueError(f"the field at byte {start} is cut")
        yield (number if kind == _LENGTH else 0), message[start:at], content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at `at`, and the place behind it."""
    value = 0
    for place in range(10):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"there is no number at byte {at}")
