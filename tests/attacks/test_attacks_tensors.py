"""Safetensors files that lie: about lengths, shapes, offsets, names."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.protocol.tensors import FormatError, pack, unpack


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


LIES = {
    "no bytes": b"",
    "half a length": b"\x00\x00",
    "length beyond the file": raw({}, length=100),
    "length of 2**64 - 1": raw({}, length=2**64 - 1),
    "no JSON": raw(b"\xff\xfe"),
    "deep nesting": raw(b"[" * 4000),
    "a long number": raw(b'{"a":' + b"9" * 5000 + b"}"),
    "a list": raw([]),
    "NaN": raw(b'{"a": NaN}'),
    "a key twice": raw(b'{"a": 1, "a": 1}'),
    "metadata no table": raw({"__metadata__": []}),
    "metadata no strings": raw({"__metadata__": {"d": 1}}),
    "entry no table": raw({"a": 1}),
    "entry with more": raw({"a": {**entry(), "more": 1}}, bytes(4)),
    "unknown dtype": raw({"a": entry("F64", (1,), (0, 8))}, bytes(8)),
    "dtype no text": raw({"a": entry([1])}, bytes(4)),
    "shape no list": raw({"a": entry(shape=1)}, bytes(4)),
    "negative shape": raw({"a": entry(shape=(-1,))}, bytes(4)),
    "boolean shape": raw({"a": entry(shape=(True,))}, bytes(4)),
    "fractional shape": raw({"a": entry(shape=(1.0,))}, bytes(4)),
    "product over 64 bits": raw({"a": entry(shape=(2**40, 2**40), offsets=(0, 2**82))}, bytes(4)),
    "nothing of a huge shape": raw({"a": entry(shape=(0, 2**62), offsets=(0, 0))}),
    "nine dimensions": raw({"a": entry(shape=(1,) * 9)}, bytes(4)),
    "shape over its bytes": raw({"a": entry(shape=(2,))}, bytes(4)),
    "one offset": raw({"a": entry(offsets=(0,))}, bytes(4)),
    "offsets turned round": raw({"a": entry(offsets=(4, 0))}, bytes(4)),
    "offsets beyond the file": raw({"a": entry(shape=(2,), offsets=(0, 8))}, bytes(4)),
    "overlap": raw({"a": entry(), "b": entry()}, bytes(4)),
    "gap": raw({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
    "bytes left over": raw({"a": entry()}, bytes(5)),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(lie: str) -> None:
    with pytest.raises(FormatError):
        unpack(LIES[lie], 8192)


def test_a_header_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError, match="limit"):
        unpack(raw(b" " * 9000), 8192)


def test_reading_allocates_no_more_than_it_is_given() -> None:
    data = pack({}, {"weight": np.zeros((1024, 1024), "f4")})
    tracemalloc.start()
    try:
        unpack(data, 4096)
        for lie in LIES.values():
            with pytest.raises(FormatError):
                unpack(lie, 8192)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200) | st.builds(raw, json_values, st.binary(max_size=32)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        unpack(data, 4096)
