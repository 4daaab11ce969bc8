from __future__ import annotations

import numpy as np
import pytest

from paramcast.methods.m3bat.selection import MARGIN, Trial, choose, folds, judge, risks, target_weights


def test_the_lowest_risk_is_chosen() -> None:
    trials = [Trial(0.1, 1.0, 0.5, 0.4), Trial(0.3, 1.1, 0.2, 0.3), Trial(1.0, 0.9, 0.0, 0.9)]
    assert risks(trials) == pytest.approx([1.6, 1.3, 1.5])
    assert choose(trials) == 1


def test_disagreement_counts_where_the_source_model_has_less_alone() -> None:
    trials = [Trial(0.0, 1.0, 0.0, 0.4), Trial(0.3, 1.0, 0.0, 0.1), Trial(1.0, 1.0, 0.0, 0.6)]
    assert risks(trials) == pytest.approx([1.0, 1.0, 1.2])


@pytest.mark.parametrize(("share", "chosen"), [(0.5 * MARGIN, 0), (1.5 * MARGIN, 1)])
def test_the_source_model_is_left_for_something_clearly_better_only(share: float, chosen: int) -> None:
    assert choose([Trial(0.0, 1.0, 0.0, 0.0), Trial(1.0, 1.0 - share, 0.0, 0.0)]) == chosen


def test_each_row_is_held_out_once() -> None:
    parts = folds(np.ones(22), 4, np.random.default_rng(0))
    assert sorted(np.concatenate(parts)) == list(range(22))
    assert {len(part) for part in parts} == {5, 6}


def test_whole_domains_are_held_out_where_there_are_enough() -> None:
    domains = np.repeat(np.arange(1, 7), 5)
    for part in folds(domains, 4, np.random.default_rng(0)):
        assert not set(domains[part]) & set(np.delete(domains, part))


@pytest.mark.parametrize(("rows", "networks"), [(7, 4), (100, 1)])
def test_nothing_is_held_out_where_nothing_can_be_spared(rows: int, networks: int) -> None:
    assert [len(part) for part in folds(np.ones(rows), networks, np.random.default_rng(0))] == [0] * networks


def test_weights_give_the_source_the_means_of_the_target() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(400, 2))
    target = rng.normal(size=(400, 2)) + np.array([1, 0])
    weights = target_weights(source, target)
    assert weights.min() >= 0
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights @ source / 400, target.mean(0), atol=0.02)


def test_no_weights_explain_a_target_outside_of_the_source() -> None:
    source = np.random.default_rng(0).normal(size=(400, 2))
    assert target_weights(source, source + 5).tolist() == [1.0] * 400


MANY = 400
HELD_OUT = [np.arange(0, MANY, 2), np.arange(1, MANY, 2)]


def test_a_trial_of_classes() -> None:
    truth = np.arange(MANY) % 4 // 2
    sure = np.where(truth[:, None] == [0, 1], 0.9, 0.1)
    same, even = np.stack([sure, sure]), np.ones(MANY)
    agreed = judge("classification", 0.3, same, same, truth, HELD_OUT, even)
    assert agreed == Trial(0.3, pytest.approx(-np.log(0.9)), 0.0, pytest.approx(0, abs=1e-9))
    split = judge("classification", 0.3, same, np.stack([sure, 1 - sure]), truth, HELD_OUT, even)
    own = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    assert split.disagreement == pytest.approx(np.log(2) - own)
    ill = same[:, truth == 1]
    assert judge("classification", 0.3, same, ill, truth, HELD_OUT, even).label_shift == pytest.approx(0.4)
    assert judge("classification", 0.3, same, ill, truth, HELD_OUT, 2.0 * truth).label_shift == 0


def test_a_trial_of_numbers() -> None:
    truth = np.linspace(-1, 1, MANY)
    source, even = np.stack([truth, truth])[..., None], np.ones(MANY)
    chance = 2 * truth.std() * (2 / MANY) ** 0.5
    far = judge("regression", 1.0, source + 0.5, source + 4.5, truth, HELD_OUT, even)
    assert far == Trial(1.0, pytest.approx(0.5), pytest.approx(4 - chance), 0.0)
    split = np.stack([truth - 1, truth + 1])[..., None]
    found = judge("regression", 1.0, source, split, truth, HELD_OUT, even)
    assert found.disagreement == pytest.approx(1.0)
    assert found.label_shift == 0


def test_a_network_is_judged_by_rows_that_it_did_not_learn() -> None:
    truth = np.linspace(0, 1, MANY)
    source = np.stack([truth, truth])
    source[0, HELD_OUT[1]] += 100
    source[1, HELD_OUT[0]] -= 100
    trial = judge("regression", 0.0, source[..., None], source[..., None], truth, HELD_OUT, np.ones(MANY))
    assert trial.source_loss == 0
