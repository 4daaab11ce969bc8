"""Requests: round trip, size, and every way of being malformed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paramcast.protocol import AdaptRequest, MessageError

MODEL = "a" * 64


def request(clips: int = 3, asked: int = 5, **changes: Any) -> AdaptRequest:
    rng = np.random.default_rng(0)
    made = AdaptRequest(
        device="cam-1",
        model=MODEL,
        sequence=7,
        anchors=rng.normal(size=(clips, 128)).astype("f4"),
        queries=rng.normal(size=(asked, 64)).astype("f4"),
        clip_of_query=np.arange(asked) % clips,
    )
    return dataclasses.replace(made, **changes)


def rows(count: int, width: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(
        "f4", (count, width), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    )


@st.composite
def requests(draw: st.DrawFn) -> AdaptRequest:
    clips, queries = draw(st.integers(1, 6)), draw(st.integers(0, 6))
    return AdaptRequest(
        device=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}", fullmatch=True)),
        model=draw(st.from_regex("[0-9a-f]{64}", fullmatch=True)),
        sequence=draw(st.integers(0, 2**53 - 1)),
        anchors=draw(rows(clips, draw(st.integers(1, 9)))),
        queries=draw(rows(queries, draw(st.integers(1, 9)))),
        clip_of_query=draw(hnp.arrays("i8", queries, elements=st.integers(0, clips - 1))),
    )


@given(requests())
def test_round_trip(sent: AdaptRequest) -> None:
    got = AdaptRequest.decode(sent.encode())
    assert (got.device, got.model, got.sequence) == (sent.device, sent.model, sent.sequence)
    np.testing.assert_array_equal(got.clip_of_query, sent.clip_of_query)
    for name in ("anchors", "queries"):
        before, after = getattr(sent, name), getattr(got, name)
        assert after.dtype == np.float32
        assert after.shape == before.shape
        peak = np.abs(before.astype("f8")).max(axis=1, keepdims=True, initial=0)
        # 4e-43 is room for the smallest numbers that float32 has: twice their step, 127 times.
        assert (np.abs(after.astype("f8") - before) <= peak / 253.9 + 4e-43).all()


def test_a_clip_takes_little_more_than_its_codes() -> None:
    size = len(request(clips=8, asked=8).encode())
    assert (128 + 64 + 9) * 8 < size < (128 + 64 + 9) * 8 + 270


BROKEN = {
    "id with a slash": {"device": "../etc/passwd"},
    "empty id": {"device": ""},
    "id of 129": {"device": "x" * 129},
    "id with a newline": {"device": "cam\n"},
    "short model": {"model": "a" * 63},
    "upper-case model": {"model": "A" * 64},
    "negative sequence": {"sequence": -1},
    "huge sequence": {"sequence": 2**53},
    "no clip": {"anchors": np.zeros((0, 4), "f4")},
    "too many clips": {"anchors": np.zeros((257, 4), "f4")},
    "anchors of one dimension": {"anchors": np.zeros(4, "f4")},
    "anchors of no columns": {"anchors": np.zeros((3, 0), "f4")},
    "anchors float64": {"anchors": np.zeros((3, 4))},
    "NaN": {"anchors": np.full((3, 4), np.nan, "f4")},
    "Inf": {"queries": np.full((5, 4), np.inf, "f4")},
    "too many queries": {"queries": np.zeros((2049, 4), "f4"), "clip_of_query": np.zeros(2049, "i8")},
    "clip missing": {"clip_of_query": np.zeros(4, "i8")},
    "clip beyond": {"clip_of_query": np.full(5, 3)},
    "clip negative": {"clip_of_query": np.full(5, -1)},
    "clip float": {"clip_of_query": np.zeros(5)},
    "over 256 KiB": {"anchors": np.ones((256, 2048), "f4")},
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_requests_are_not_sent(case: str) -> None:
    with pytest.raises(MessageError):
        request(**BROKEN[case]).encode()
