"""Reads the inputs and outputs of ONNX files, and turns inputs into constants, without the package `onnx`.

Only the parts of protobuf's wire format (https://protobuf.dev/programming-guides/encoding) that occur in ONNX
files are read. The numbers of the fields, from onnx.proto3: ModelProto.ir_version 1, graph 7, opset_import 8
(domain 1, version 2); GraphProto.initializer 5, input 11, output 12; ValueInfoProto.name 1, type 2;
TypeProto.tensor_type 1 (elem_type 1, shape 2); TensorShapeProto.dim 1 (dim_value 1); TensorProto.dims 1,
data_type 2, name 8, raw_data 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_IR_VERSION, _GRAPH, _OPSET = 1, 7, 8
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA, _FLOAT = 1, 2, 8, 9, 1
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
"""Wire type of fixed length -> number of bytes."""

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""TensorProto.DataType -> numpy's name."""


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: Name of the input or output.
        dtype: numpy's name of the dtype, or '' if numpy does not have it.
        shape: Sizes of the axes; None for an axis without a fixed size.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """Inputs, outputs and versions of the graph in an ONNX file.

    Attributes:
        ir_version, opset: Versions of the format and of the default operators.
        inputs: Required inputs by name. An input that is an initializer too is in `initializers` only.
        initializers: Names of the constants, including overridable defaults.
        outputs: Outputs by name.
    """

    ir_version: int
    opset: int
    inputs: Mapping[str, Value]
    initializers: frozenset[str]
    outputs: Mapping[str, Value]


def read_graph(model: bytes) -> Graph:
    """Read the inputs and outputs of a graph.

    Raises:
        ValueError: These bytes are no ONNX file.
    """
    ir_version = opset = 0
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    initializers: set[str] = set()
    try:
        for number, _, content in _fields(memoryview(model)):
            if number == _IR_VERSION and isinstance(content, int):
                ir_version = content
            elif number == _OPSET and isinstance(content, memoryview):
                told = {key: value for key, _, value in _fields(content)}
                version = told.get(2)
                if not told.get(1) and isinstance(version, int):
                    opset = version
            elif number == _GRAPH and isinstance(content, memoryview):
                for part, _, value in _fields(content):
                    if not isinstance(value, memoryview):
                        continue
                    if part == _INITIALIZER:
                        initializers.add(_text(value, _TENSOR_NAME))
                    elif part in (_INPUT, _OUTPUT):
                        found = _value(value)
                        (inputs if part == _INPUT else outputs)[found.name] = found
    except UnicodeDecodeError as error:
        raise ValueError("a name is no text") from error
    if not outputs:
        raise ValueError("there is no graph with outputs")
    required = {name: value for name, value in inputs.items() if name not in initializers}
    return Graph(ir_version, opset, required, frozenset(initializers), outputs)


def bake(model: bytes, parameters: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return the ONNX file `model` with the inputs in `parameters` turned into constants.

    A session of such a graph can prepare its weights once, which means to pack them and to fold constants. It
    cannot do so if the weights may change with every run.

    Args:
        model: A whole file, including its weights.
        parameters: float32 arrays by name; names that are no inputs are ignored.

    Raises:
        ValueError: These bytes are no protobuf message.
    """
    parts: list[bytes] = []
    for number, whole, content in _fields(memoryview(model)):
        if number == _GRAPH and isinstance(content, memoryview):
            parts.append(_bytes_field(_GRAPH, _baked(content, parameters)))
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def _baked(graph: memoryview, parameters: Mapping[str, NDArray[np.float32]]) -> bytes:
    parts: list[bytes] = []
    for number, whole, content in _fields(graph):
        name = _text(content, 1) if number == _INPUT and isinstance(content, memoryview) else ""
        if name in parameters:
            parts.append(_bytes_field(_INITIALIZER, _tensor(name, parameters[name])))
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def _value(value_info: memoryview) -> Value:
    """Read a ValueInfoProto; a value that is no plain tensor gets no dtype and no shape."""
    tensor = _inner(_inner(value_info, 2), 1)
    dtype = next((c for number, _, c in _fields(tensor) if number == 1 and isinstance(c, int)), 0)
    shape: list[int | None] = []
    for number, _, dim in _fields(_inner(tensor, 2)):
        if number == 1 and isinstance(dim, memoryview):
            sizes = [c for key, _, c in _fields(dim) if key == 1 and isinstance(c, int)]
            shape.append(sizes[0] if sizes else None)
    return Value(_text(value_info, 1), DTYPES.get(dtype, ""), tuple(shape))


def _inner(message: memoryview, wanted: int) -> memoryview:
    """Return the first message in field `wanted`; an empty message if there is none."""
    for number, _, content in _fields(message):
        if number == wanted and isinstance(content, memoryview):
            return content
    return message[:0]


def _text(message: memoryview, wanted: int) -> str:
    return bytes(_inner(message, wanted)).decode()


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    little = np.ascontiguousarray(values, "<f4")
    dims = b"".join(_varint(_DIMS << 3 | _VARINT) + _varint(size) for size in values.shape)
    kind = _varint(_DATA_TYPE << 3 | _VARINT) + _varint(_FLOAT)
    return dims + kind + _bytes_field(_TENSOR_NAME, name.encode()) + _bytes_field(_RAW_DATA, little.tobytes())


def _bytes_field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview | int | None]]:
    """Yield each field's number, all of its bytes, and its content: an integer or bytes.

    The content of a number of fixed length is None, because no field that is read here has a fixed length.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        number, kind = key >> 3, key & 7
        content: memoryview | int | None = None
        if kind == _VARINT:
            content, at = _read_varint(message, at)
        elif kind == _LENGTH:
            size, at = _read_varint(message, at)
            content, at = message[at : at + size], at + size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {start} does not occur in ONNX files")
        if at > len(message):
            raise ValueError(f"the field at byte {start} is cut off")
        yield number, message[start:at], content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read the number at `at`; returns it and the position after it."""
    value = 0
    for place in range(10):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"there is no number at byte {at}")
