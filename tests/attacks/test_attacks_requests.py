"""Requests: one attack for each rule that the cloud checks before it works."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcast.errors import InputError
from paramcast.protocol import MAX_REQUEST_BYTES, AdaptRequest, MessageError
from paramcast.protocol.tensors import pack

MODEL = "a" * 64


def request() -> AdaptRequest:
    rng = np.random.default_rng(0)
    anchors, queries = rng.normal(size=(3, 128)).astype("f4"), rng.normal(size=(5, 64)).astype("f4")
    return AdaptRequest("cam-1", MODEL, 7, anchors, queries, np.arange(5) % 3)


def stored(count: int, scale: float = 1.0, code: int = 1, clip: int | None = None) -> np.ndarray:
    """Rows of a tensor: four codes, their scale, and the clip of a query."""
    codes = np.full((count, 4), code, "u1")
    scales = np.full((count, 1), scale, "<f4").view("u1")
    return np.concatenate([codes, scales, *([] if clip is None else [np.full((count, 1), clip, "u1")])], 1)


def parts() -> tuple[dict[str, str], dict[str, np.ndarray]]:
    return {"d": "cam-1", "m": MODEL, "s": "0"}, {"a": stored(3), "q": stored(2, clip=0)}


TENSOR_ATTACKS = {
    "extra tensor": {"x": np.ones(1, "f4")},
    "features float": {"a": np.ones((3, 8), "f4")},
    "features signed": {"a": stored(3).view("i1")},
    "flat features": {"a": stored(3).ravel()},
    "scales alone": {"a": stored(3)[:, 4:]},
    "no columns": {"q": np.ones((2, 0), "u1")},
    "a query's scale and clip alone": {"q": stored(2, clip=0)[:, 4:]},
    "scale NaN": {"a": stored(3, np.nan)},
    "scale Inf": {"a": stored(3, np.inf)},
    "scale overflows": {"a": stored(3, 3e38, code=127)},
    "clip beyond": {"q": stored(2, clip=3)},
    "no clips at all": {"a": stored(0)},
    "nothing of many columns": {"q": np.ones((0, 10**7), "u1")},
}


@pytest.mark.parametrize("attack", TENSOR_ATTACKS)
def test_attacks_with_tensors(attack: str) -> None:
    metadata, tensors = parts()
    AdaptRequest.decode(pack(metadata, tensors))
    with pytest.raises(MessageError):
        AdaptRequest.decode(pack(metadata, tensors | TENSOR_ATTACKS[attack]))


@pytest.mark.parametrize(
    "change",
    [{"s": "-1"}, {"s": "01"}, {"s": "٣"}, {"s": "1" * 5000}, {"s": str(2**53)}, {"d": "a/b"}, {"x": "more"}],
)
def test_attacks_with_metadata(change: dict[str, str]) -> None:
    metadata, tensors = parts()
    with pytest.raises(MessageError):
        AdaptRequest.decode(pack(metadata | change, tensors))


@pytest.mark.parametrize("name", ["a", "q"])
def test_a_missing_tensor_is_refused(name: str) -> None:
    metadata, tensors = parts()
    del tensors[name]
    with pytest.raises(MessageError):
        AdaptRequest.decode(pack(metadata, tensors))


def test_too_large_is_refused_unread() -> None:
    with pytest.raises(MessageError, match="more than"):
        AdaptRequest.decode(bytes(MAX_REQUEST_BYTES + 1))
    assert issubclass(MessageError, InputError)


@settings(max_examples=200)
@given(st.binary(max_size=600), st.integers(0, 1000), st.integers(0, 255))
def test_any_bytes_are_a_request_or_refused(noise: bytes, place: int, value: int) -> None:
    changed = bytearray(request().encode())
    changed[place % len(changed)] = value
    for data in (noise, bytes(changed), bytes(changed[:place])):
        with contextlib.suppress(MessageError):
            AdaptRequest.decode(data)
