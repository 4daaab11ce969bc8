"""Ties in a ranking count by chance."""

from __future__ import annotations

import numpy as np
import pytest

from paramcast.video.ranking import expected_recall


def test_all_alike_is_guessing() -> None:
    found = expected_recall(np.full((200, 200), 0.3), np.arange(200), (1, 5, 10))
    assert found == pytest.approx({1: 0.5, 5: 2.5, 10: 5.0})
    rounded = np.full((200, 200), 0.3) + 1e-8 * np.random.default_rng(0).normal(size=(200, 200))
    assert expected_recall(rounded, np.arange(200), (1, 5, 10)) == pytest.approx(found)


def test_it_is_the_mean_over_the_orders_of_ties() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, (30, 12)).astype(float)
    right = rng.integers(0, 12, 30)
    drawn = []
    for _ in range(4000):
        ranks = np.argsort(np.argsort(-(scores + 0.1 * rng.random(scores.shape)), 1), 1)
        drawn.append([(ranks[np.arange(30), right] < k).mean() for k in (1, 5)])
    wanted = 100 * np.mean(drawn, 0)
    found = expected_recall(scores, right, (1, 5))
    assert [found[1], found[5]] == pytest.approx(wanted, abs=0.5)


def test_without_ties_it_is_the_rank() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.3]])
    assert expected_recall(scores, np.array([0, 1]), (1, 2)) == {1: 50.0, 2: 100.0}


def test_scores_that_are_no_numbers_are_the_worst() -> None:
    scores = np.array([[np.nan, 0.1], [0.2, np.nan]])
    assert expected_recall(scores, np.array([0, 0]), (1,)) == {1: 50.0}
    assert expected_recall(np.full((1, 4), np.nan), np.array([0]), (1,)) == {1: 25.0}
