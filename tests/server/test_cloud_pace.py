"""Those for whom there is no room come back one after the other, as fast as work is done."""

from __future__ import annotations

from collections import Counter

import pytest

from paramcast.server.pace import LONGEST_S, Pace


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_before_anything_was_measured_it_is_a_second() -> None:
    assert Pace(Clock()).come_back_s() == 1


@pytest.mark.parametrize("rate", [5, 200, 1000])
def test_as_many_are_told_each_second_as_are_served_in_one(rate: int) -> None:
    pace = Pace(Clock())
    for _ in range(50):
        pace.worked(32, 32 / rate)
    told = Counter(pace.come_back_s() for _ in range(10 * rate))
    assert sorted(told) == list(range(1, 11)) or sorted(told) == list(range(1, 12))  # rounding
    assert all(abs(told[second] - rate) <= 1 for second in range(2, 10))


def test_it_follows_a_service_that_becomes_slower() -> None:
    pace = Pace(Clock())
    for _ in range(50):
        pace.worked(32, 0.032)
    for _ in range(50):
        pace.worked(32, 3.2)
    assert [pace.come_back_s() for _ in range(40)][-1] in (4, 5)


def test_nobody_is_sent_away_for_longer_than_clients_wait_and_they_do_not_come_together() -> None:
    pace = Pace(Clock())
    pace.worked(1, 0.1)
    told = [pace.come_back_s() for _ in range(2000)]
    assert max(told) == LONGEST_S
    late = Counter(told[600:])
    assert set(late) == set(range(31, 61))
    assert max(late.values()) < 3 * 1400 / 30


def test_times_that_have_passed_are_not_handed_out_again() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.worked(1, 1.0)
    assert [pace.come_back_s() for _ in range(3)] == [1, 2, 3]
    clock.now += 2
    assert [pace.come_back_s() for _ in range(2)] == [2, 3]
    clock.now += 100
    assert pace.come_back_s() == 1
