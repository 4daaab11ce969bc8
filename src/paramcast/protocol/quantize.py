"""How float32 tensors travel: as they are, as float16, or as int8 or int4 with one scale a row.

A row is an index of the first axis (a layer's output), or the whole of a vector or scalar. int8 keeps every
value within 1/254 (0.4 %) of its row's largest magnitude, int4 within 1/14 (7 %); float16 within 0.05 % of
the value itself. Two int4 codes share a byte, the first one in its lower half; the last byte of an odd row is
filled up with a zero.
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
"""Half of int8's bytes; no gain that was measured is lost by it, in any form (docs/results.md)."""
SCALE_SUFFIX = ":s"  # ':' is not allowed in a tensor's name, so that a scale can never pass for a tensor
_LEVELS = {"int8": 127, "int4": 7}


def stored_layout(
    name: str, shape: tuple[int, ...], quantization: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The stored tensors, {name: (safetensors dtype, shape)}, that carry one tensor of `shape`."""
    rows = row_count(shape)
    scales = {name + SCALE_SUFFIX: ("F32", (rows,))}
    if quantization == "int8":
        return {name: ("I8", shape), **scales}
    if quantization == "int4":
        return {name: ("U8", (rows, (prod(shape) // rows + 1) // 2)), **scales}
    return {name: ("F16" if quantization == "fp16" else "F32", shape)}


def row_count(shape: tuple[int, ...]) -> int:
    """How many scales a tensor of `shape` has."""
    return shape[0] if len(shape) > 1 else 1


def quantize(name: str, values: Float32, quantization: str) -> dict[str, Array]:
    """The stored tensors that carry `values`; float16 turns what it cannot hold into infinities."""
    if quantization in _LEVELS:
        codes, scales = _to_codes(values.reshape(row_count(values.shape), -1), _LEVELS[quantization])
        packed = codes.reshape(values.shape) if quantization == "int8" else _pack_pairs(codes)
        return {name: packed, name + SCALE_SUFFIX: scales}
    if quantization == "fp16":
        with np.errstate(over="ignore"):
            return {name: values.astype("<f2")}
    return {name: values.astype("<f4")}


def dequantize(name: str, stored: Mapping[str, Array], shape: tuple[int, ...]) -> Float32:
    """The float32 tensor of `shape` that `stored` carries under `name`: a fresh, writable array."""
    values, scales = stored[name], stored.get(name + SCALE_SUFFIX)
    if scales is None:
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        values = _unpack_pairs(values)[:, : prod(shape) // len(scales)]
    return from_int8(values.reshape(len(scales), -1), scales).reshape(shape)


def rounded(tensors: Mapping[str, Float32], quantization: str) -> dict[str, Float32]:
    """Tensors as the other side will have them."""
    return {
        name: dequantize(name, quantize(name, values, quantization), values.shape)
        for name, values in tensors.items()
    }


def to_int8(rows: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Quantize finite `rows` (R, N) float32: codes (R, N) int8 in -127..127, scales (R,) float32 >= 0."""
    return _to_codes(rows, _LEVELS["int8"])


def from_int8(codes: NDArray[np.int8], scales: Float32) -> Float32:
    """The inverse of `to_int8`: (R, N) float32; hostile scales give infinities or NaN, never an error."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: Float32 = codes * scales[:, None]
    return values


def _to_codes(rows: Float32, levels: int) -> tuple[NDArray[np.int8], Float32]:
    """Codes (R, N) in -levels..levels, and scales (R,)."""
    peaks = np.abs(rows).max(axis=1, initial=0.0)
    # Rounded towards zero, so that `levels` times the scale of the largest float32 is still finite.
    scales = np.nextafter((peaks / np.float32(levels)).astype(np.float32), np.float32(0))
    divisors = np.where(scales > 0, scales, 1).astype(np.float64)
    codes = np.minimum(np.maximum(np.rint(rows / divisors[:, None]), -levels), levels)  # clip takes longer
    return np.where(scales[:, None] > 0, codes, 0).astype(np.int8), scales


def _pack_pairs(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes (R, N) in -8..7 -> (R, ceil(N / 2)), each as two's complement of four bits."""
    halves = codes.view(np.uint8) & np.uint8(0x0F)
    if codes.shape[1] % 2:
        halves = np.concatenate([halves, np.zeros((len(halves), 1), np.uint8)], axis=1)  # np.pad takes longer
    pairs: NDArray[np.uint8] = halves[:, ::2] | halves[:, 1::2] << np.uint8(4)
    return pairs


def _unpack_pairs(pairs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The inverse of `_pack_pairs`: (R, P) -> (R, 2 P)."""
    halves = np.stack([pairs & 0x0F, pairs >> 4], -1).reshape(len(pairs), -1)
    codes: NDArray[np.int8] = (halves ^ 8).astype(np.int8) - np.int8(8)  # the sign is the fourth bit
    return codes
