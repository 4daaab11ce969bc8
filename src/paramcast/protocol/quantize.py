"""Quantization of float32 tensors: none, float16, or int8 or int4 with one scale for each row.

A row is an index of the first axis (a layer's output), or a whole vector or scalar. int8 keeps every value
within 1/254 (0.4 %) of its row's largest magnitude, int4 within 1/14 (7 %). float16 keeps every value within
0.05 % of the value itself. Two int4 codes share a byte: the first code is in the lower half. The last byte of
a row with an odd number of codes is filled up with a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]

QUANTIZATIONS = ("fp32", "fp16", "int8", "int4")
DEFAULT_QUANTIZATION: Literal["int4"] = "int4"
"""int4 needs half of int8's bytes, and no form of update lost measured gain by it (docs/results.md)."""
SCALE_SUFFIX = ":s"  # tensor names may not hold ':', so a scale cannot be taken for a tensor
_LEVELS = {"int8": 127, "int4": 7}


def stored_layout(
    name: str, shape: tuple[int, ...], quantization: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the stored tensors, {name: (safetensors dtype, shape)}, that carry one tensor of `shape`."""
    rows = row_count(shape)
    scales = {name + SCALE_SUFFIX: ("F32", (rows,))}
    if quantization == "int8":
        return {name: ("I8", shape), **scales}
    if quantization == "int4":
        return {name: ("U8", (rows, (prod(shape) // rows + 1) // 2)), **scales}
    return {name: ("F16" if quantization == "fp16" else "F32", shape)}


def row_count(shape: tuple[int, ...]) -> int:
    """Return the number of scales of a tensor of `shape`."""
    return shape[0] if len(shape) > 1 else 1


def quantize(name: str, values: Float32, quantization: str) -> dict[str, Array]:
    """Convert `values` to stored tensors; float16 turns values that are too large into infinities."""
    if quantization in _LEVELS:
        codes, scales = _to_codes(values.reshape(row_count(values.shape), -1), _LEVELS[quantization])
        packed = codes.reshape(values.shape) if quantization == "int8" else _pack_pairs(codes)
        return {name: packed, name + SCALE_SUFFIX: scales}
    if quantization == "fp16":
        with np.errstate(over="ignore"):
            return {name: values.astype("<f2")}
    return {name: values.astype("<f4")}


def dequantize(name: str, stored: Mapping[str, Array], shape: tuple[int, ...]) -> Float32:
    """Restore the float32 tensor `name` of `shape` from stored tensors, as a new, writable array."""
    values, scales = stored[name], stored.get(name + SCALE_SUFFIX)
    if scales is None:
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        values = _unpack_pairs(values)[:, : prod(shape) // len(scales)]
    return from_int8(values.reshape(len(scales), -1), scales).reshape(shape)


def rounded(tensors: Mapping[str, Float32], quantization: str) -> dict[str, Float32]:
    """Quantize and dequantize tensors, which gives the values that the receiver will have."""
    return {
        name: dequantize(name, quantize(name, values, quantization), values.shape)
        for name, values in tensors.items()
    }


def to_int8(rows: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Quantize finite `rows` (R, N) float32: codes (R, N) int8 in -127..127, scales (R,) float32 >= 0."""
    return _to_codes(rows, _LEVELS["int8"])


def from_int8(codes: NDArray[np.int8], scales: Float32) -> Float32:
    """Invert `to_int8`: returns (R, N) float32. Hostile scales give infinities or NaN, never an error."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: Float32 = codes * scales[:, None]
    return values


def _to_codes(rows: Float32, levels: int) -> tuple[NDArray[np.int8], Float32]:
    """Quantize rows (R, N) to codes (R, N) in -levels..levels, and scales (R,)."""
    peaks = np.abs(rows).max(axis=1, initial=0.0)
    # Scales are rounded towards zero, so that `levels` times the scale of the largest float32 is still
    # finite.
    scales = np.nextafter((peaks / np.float32(levels)).astype(np.float32), np.float32(0))
    divisors = np.where(scales > 0, scales, 1).astype(np.float64)
    codes = np.minimum(np.maximum(np.rint(rows / divisors[:, None]), -levels), levels)  # np.clip is slower
    return np.where(scales[:, None] > 0, codes, 0).astype(np.int8), scales


def _pack_pairs(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack codes (R, N) in -8..7 into bytes (R, ceil(N / 2)); a code is a four-bit two's complement."""
    halves = codes.view(np.uint8) & np.uint8(0x0F)
    if codes.shape[1] % 2:
        halves = np.concatenate([halves, np.zeros((len(halves), 1), np.uint8)], axis=1)  # np.pad is slower
    pairs: NDArray[np.uint8] = halves[:, ::2] | halves[:, 1::2] << np.uint8(4)
    return pairs


def _unpack_pairs(pairs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Invert `_pack_pairs`: (R, P) -> (R, 2 P)."""
    halves = np.stack([pairs & 0x0F, pairs >> 4], -1).reshape(len(pairs), -1)
    codes: NDArray[np.int8] = (halves ^ 8).astype(np.int8) - np.int8(8)  # the sign is the fourth bit
    return codes
