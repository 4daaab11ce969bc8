"""Shares of a gain, and requests along a stream, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from paramcast.bench.ratios import share_interval
from paramcast.bench.stream import GRID, Stream, requests
from paramcast.device.policy import Always, Every, Never
from paramcast.device.support import Seen


def test_a_share_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(4, 1, 200)
    found = share_interval(0.9 * whole + rng.normal(0, 0.2, 200), whole)
    assert found is not None
    assert found.low < 0.9 < found.high
    assert found.high - found.low < 0.05
    assert found.mean == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("whole", [np.zeros(5), np.array([-1.0, 1.0, 0.5]), -np.ones(3)])
def test_of_nothing_there_is_no_share(whole: np.ndarray) -> None:
    assert share_interval(np.ones(len(whole)), whole) is None


def test_requests_along_a_stream() -> None:
    rng, none = np.random.default_rng(0), np.empty((0, 0), np.float32)
    offsets = np.repeat([0.0, 2.0], 60)
    seen = tuple(
        Seen((rng.normal(size=32) + move).astype("f4"), np.empty((0, 8), np.float32), none, none)
        for move in offsets
    )
    stream = Stream((), (), seen)
    assert requests(stream, Never()) == []
    assert requests(stream, Always(8)) == [(n, min(n, 8)) for n in range(1, 121)]
    assert requests(stream, Every(50)) == [(50, 16), (100, 16)]
    for make in GRID.values():
        asked = requests(stream, make())
        after = [(at, count) for at, count in asked if at > 60]
        assert after[0][0] <= 64
        assert all(at - count >= 60 for at, count in after)  # no clip of the domain before
        assert len(asked) <= 24  # with the lowest threshold there is a false alarm
