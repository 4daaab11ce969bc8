"""How float32 tensors travel: as they are, as float16, or as int8 with one scale a row.

A row is an index of the first axis (a layer's output), or the whole of a vector or scalar. int8 keeps every
value within 1/254 (0.4 %) of its row's largest magnitude; float16 within 0.05 % of the value itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]

QUANTISATIONS = ("fp32", "fp16", "int8")
SCALE_SUFFIX = ":s"  # ':' is not allowed in a tensor's name, so that a scale can never pass for a tensor
_LEVELS = 127


def stored_layout(
    name: str, shape: tuple[int, ...], quantisation: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The stored tensors, {name: (safetensors dtype, shape)}, that carry one tensor of `shape`."""
    if quantisation == "int8":
        return {name: ("I8", shape), name + SCALE_SUFFIX: ("F32", (row_count(shape),))}
    return {name: ("F16" if quantisation == "fp16" else "F32", shape)}


def row_count(shape: tuple[int, ...]) -> int:
    """How many scales a tensor of `shape` has."""
    return shape[0] if len(shape) > 1 else 1


def quantise(name: str, values: Float32, quantisation: str) -> dict[str, Array]:
    """The stored tensors that carry `values`; float16 turns what it cannot hold into infinities."""
    if quantisation == "int8":
        codes, scales = to_int8(values.reshape(row_count(values.shape), -1))
        return {name: codes.reshape(values.shape), name + SCALE_SUFFIX: scales}
    if quantisation == "fp16":
        with np.errstate(over="ignore"):
            return {name: values.astype("<f2")}
    return {name: values.astype("<f4")}


def dequantise(name: str, stored: Mapping[str, Array]) -> Float32:
    """The float32 tensor that `stored` carries under `name`: a fresh, writable array."""
    values = stored[name]
    if values.dtype != np.int8:
        return values.astype(np.float32)
    scales = stored[name + SCALE_SUFFIX]
    return from_int8(values.reshape(len(scales), -1), scales).reshape(values.shape)


def to_int8(rows: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Quantise finite `rows` (R, N) float32: codes (R, N) int8 in -127..127, scales (R,) float32 >= 0."""
    peaks = np.abs(rows).max(axis=1, initial=0.0)
    # Rounded towards zero, so that 127 times the scale of the largest float32 is still finite.
    scales = np.nextafter((peaks / np.float32(_LEVELS)).astype(np.float32), np.float32(0))
    divisors = np.where(scales > 0, scales, 1).astype(np.float64)
    codes = np.clip(np.rint(rows / divisors[:, None]), -_LEVELS, _LEVELS)
    return np.where(scales[:, None] > 0, codes, 0).astype(np.int8), scales


def from_int8(codes: NDArray[np.int8], scales: Float32) -> Float32:
    """The inverse of `to_int8`: (R, N) float32; hostile scales give infinities or NaN, never an error."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: Float32 = codes * scales[:, None]
    return values
