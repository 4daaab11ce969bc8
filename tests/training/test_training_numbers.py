"""Intervals, figures of a result, and the uplink."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.protocol import AdaptRequest
from paramcast.training.controls import Metric, Result, derangement
from paramcast.training.statistics import interval, over_seeds
from paramcast.training.uplink import Uplink, as_received


def result(**values: list[float]) -> Result:
    arrays = {name: np.array(column, np.float64) for name, column in values.items()}
    devices = tuple(f"d{place}" for place in range(len(next(iter(arrays.values())))))
    return Result(Metric("top1"), 4, devices, arrays)


def test_gain_is_against_the_better_of_base_and_constant() -> None:
    found = result(
        base=[50, 60, 70, 40],
        constant=[52, 62, 70, 44],
        shuffled=[50, 58, 69, 43],
        own=[60, 58.5, 71, 48.5],
        oracle=[62, 64, 72, 50],
    )
    assert found.reference == "constant"
    assert found.gain.mean == pytest.approx(2.5)
    assert found.device_matters.mean == pytest.approx(4.5)
    assert found.recovery == pytest.approx(2.5 / 5)
    assert found.worse_share == 0.25  # the second, which lost 1.5 points against base
    assert found.gain.low <= found.gain.mean <= found.gain.high


def test_nothing_to_recover_is_said_so() -> None:
    same = {name: [50.0, 60.0] for name in ("base", "constant", "shuffled", "own", "oracle")}
    found = result(**same)
    assert (found.reference, found.recovery, found.worse_share) == ("base", None, 0)
    assert found.gain == interval(np.zeros(2))


def test_without_true_domains_there_is_no_oracle_and_no_recovery() -> None:
    found = result(**{name: [50.0, 60.0] for name in ("base", "constant", "shuffled")}, own=[51.0, 62.0])
    assert found.recovery is None
    assert found.gain.mean == pytest.approx(1.5)


def test_one_point_less_is_not_worse() -> None:
    columns = {name: [50.0, 50.0] for name in ("base", "constant", "shuffled", "oracle")}
    assert result(**columns, own=[49.0, 48.9]).worse_share == 0.5


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = [interval(rng.normal(3, 5, 60)) for _ in range(300)]
    covered = np.mean([one.low <= 3 <= one.high for one in held])
    assert 0.90 <= covered <= 0.985


def test_intervals_over_few_seeds_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for seeds in (3, 5):
        held = [over_seeds(rng.normal(3, 5, seeds)) for _ in range(2000)]
        assert np.mean([each.low <= 3 <= each.high for each in held]) == pytest.approx(0.95, abs=0.015)


def test_the_interval_over_seeds_is_that_of_the_tables() -> None:
    found = over_seeds(np.array([1.0, 2.0, 3.0]))  # 2 -+ 4.3027 / sqrt(3)
    assert found.json() == {"mean": 2.0, "low": -0.4841, "high": 4.4841}
    assert over_seeds(np.array([5.0])).json() == {"mean": 5.0, "low": 5.0, "high": 5.0}


def test_an_interval_of_one_device_is_a_point_and_seeds_repeat() -> None:
    assert interval(np.array([4.0])).json() == {"mean": 4.0, "low": 4.0, "high": 4.0}
    values = np.arange(20.0)
    assert interval(values, seed=1) == interval(values, seed=1) != interval(values, seed=2)


@given(st.integers(2, 200), st.integers(0, 2**31))
def test_nobody_is_handed_its_own_package(count: int, seed: int) -> None:
    order = derangement(count, seed).numpy()
    assert sorted(order) == list(range(count))
    assert (order != np.arange(count)).all()


def test_the_uplink_is_whitened_and_zero_beyond_the_rank() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(400, 5)) @ rng.normal(size=(5, 12)) + 7).astype(np.float32)
    uplink = Uplink.fit(features, 8)
    sent = uplink(features)
    assert sent.shape == (400, 8)
    assert sent.dtype == np.float32
    np.testing.assert_allclose(sent.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(sent[:, :5], rowvar=False), np.eye(5), atol=1e-2)
    assert not sent[:, 5:].any()
    few = Uplink.fit(features[:, :3], 8)
    assert few.matrix.shape == (3, 8)
    assert not few.matrix[:, 3:].any()


def test_one_feature_of_one_kind_does_not_break_the_uplink() -> None:
    uplink = Uplink.fit(np.ones((3, 4), np.float32), 2)
    assert np.isfinite(uplink(np.zeros((1, 4), np.float32))).all()


def test_features_in_training_are_those_that_the_wire_brings() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 9)).astype(np.float32)
    rows[2] = 0
    request = AdaptRequest("d", "0" * 64, 0, rows, rows[:3], np.arange(3))
    received = AdaptRequest.decode(request.encode())
    np.testing.assert_array_equal(as_received(rows), received.anchors)
    np.testing.assert_array_equal(as_received(rows[:3]), received.queries)
    assert np.abs(as_received(rows) - rows).max() <= np.abs(rows).max() / 254 + 1e-7
