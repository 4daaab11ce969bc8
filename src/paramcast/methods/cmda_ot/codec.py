"""Messages in the form that Flower carries: bytes (safetensors) and a table of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

Message = TypeVar("Message")
Plain = Mapping[str, Any]


class CodecError(ValueError):
    """The bytes are no message of the expected kind."""


def encode(message: Any) -> tuple[bytes, dict[str, Any]]:
    """Encode a dataclass of `messages`: its arrays as bytes, and its other values by field.

    Decoding gives equal values and dtypes.
    """
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = np.ascontiguousarray(value)
        elif isinstance(value, Mapping):
            arrays |= {f"{field.name}/{name}": np.ascontiguousarray(part) for name, part in value.items()}
        else:
            plain[field.name] = value.item() if isinstance(value, np.generic) else value
    return save(arrays), plain


def decode(kind: type[Message], data: bytes, plain: Plain) -> Message:
    """Decode the `data` and `plain` of `encode` to a message of dataclass `kind`.

    Raises:
        CodecError: The bytes are no safetensors, or the fields are not those of `kind`.
    """
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise CodecError(f"its message cannot be read: {error}") from error
    values: dict[str, Any] = dict(plain)
    for name, array in arrays.items():
        field, _, part = name.partition("/")
        if part:
            values.setdefault(field, {})[part] = array
        else:
            values[field] = array
    if values.keys() != {field.name for field in fields(kind)}:  # type: ignore[arg-type]
        raise CodecError(f"its message is no {kind.__name__}: it has {sorted(values)}")
    return kind(**values)
