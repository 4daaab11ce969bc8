from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.errors import InputError
from paramcast.pictures import time_indices
from paramcast.video.data.sampling import (
    check_sampling,
    color_histogram,
    scene_indices,
    scene_starts,
    uniform_indices,
)

LENGTHS, COUNTS = st.integers(1, 500), st.integers(1, 40)


def assert_picks(indices: np.ndarray, length: int, size: int) -> None:
    assert len(indices) == size
    assert np.all(np.diff(indices) > 0)
    assert indices[0] >= 0
    assert indices[-1] < length


@given(LENGTHS, COUNTS)
def test_uniform_takes_centres_of_equal_segments(length: int, count: int) -> None:
    indices = uniform_indices(length, count)
    assert_picks(indices, length, min(length, count))
    assert np.all(np.abs(indices + 0.5 - (np.arange(len(indices)) + 0.5) * length / len(indices)) <= 1)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200, unique=True).map(sorted), COUNTS)
def test_time_takes_what_shows_at_equal_spans(times: list[int], count: int) -> None:
    indices = time_indices(np.array(times), count)
    assert 1 <= len(indices) <= count
    assert_picks(indices, len(times), len(indices))


def test_time_follows_presentation_not_numbers() -> None:
    times = np.concatenate([np.arange(90), 90 + 30 * np.arange(10)])  # 90 quick frames, then 10 slow ones
    assert (time_indices(times, 8) >= 90).sum() == 6
    assert (uniform_indices(100, 8) >= 90).sum() == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), COUNTS)
def test_scenes_share_the_frames(lengths: list[int], count: int) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    total = sum(lengths)
    indices = scene_indices(starts, total, count)
    assert_picks(indices, total, min(total, count))
    seen = len(set(np.searchsorted(starts, indices, side="right")))
    assert seen == min(len(lengths), count)


def test_the_longest_scenes_win_when_there_are_too_many() -> None:
    assert list(scene_indices(np.array([0, 2, 12, 13]), 33, 2)) == [7, 23]


def test_a_scene_starts_where_the_colours_change() -> None:
    red, blue = np.zeros((2, 9, 16, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    looks = np.stack([color_histogram(frame) for frame in (red, red, blue, blue, red)])
    assert list(scene_starts(looks)) == [0, 2, 4]
    np.testing.assert_allclose(looks.sum(axis=1), 1)


@pytest.mark.parametrize(("count", "sampling"), [(0, "uniform"), (8, "random")])
def test_wrong_settings_are_input_errors(count: int, sampling: str) -> None:
    with pytest.raises(InputError):
        check_sampling(count, sampling)
